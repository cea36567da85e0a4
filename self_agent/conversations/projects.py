"""Projects: folders of which a conversation is in one at most."""

from __future__ import annotations

from core.errors import InvalidRequest
from self_agent.conversations.finding import Finding
from self_agent.events import Change
from self_agent.models import Project, check_title


class Projects(Finding):
    """What changes projects."""

    def create_project(self, user_id: str, name: str) -> Project:
        """Create a project."""
        return self._store.create_project(user_id, _project_name(name))

    def rename_project(self, user_id: str, project_id: int, name: str) -> Project:
        """Rename a project."""
        renamed = self._store.rename_project(self.project(user_id, project_id).id, _project_name(name))
        self._tell(user_id, Change("reset"))  # any number of chats show its name
        return renamed

    def delete_project(self, user_id: str, project_id: int) -> None:
        """Delete a project; its conversations stay."""
        self._store.delete_project(self.project(user_id, project_id).id)
        self._tell(user_id, Change("reset"))


def _project_name(name: str) -> str:
    if not name.strip():
        raise InvalidRequest("name must not be empty")
    return check_title(name.strip())
