"""Projects are folders of conversations: deleting one leaves what was in it."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint
from pydantic import Field
from typing_extensions import TypedDict

from core import clock
from core.web import Json, json_response
from self_agent.dialects.base import conversations, user
from self_agent.models import Project
from self_agent.openapi import Body, spec

ROOT = "/v1/projects"

blueprint = Blueprint("projects", __name__)


class ProjectBody(Body):
    """What a project is called."""

    name: str = Field(examples=["Travel"])


class Row(TypedDict):
    """A project."""

    id: int
    name: str
    created_at: Annotated[str, Field(examples=["2025-04-30T10:00:00"])]


class Deleted(TypedDict):
    """That it has been deleted."""

    message: str


@blueprint.get(ROOT)
@spec.validate(tags=["poe"])
def list_projects() -> Json[list[Row]]:
    """List the projects, oldest first."""
    return json_response([_row(project) for project in conversations.projects(user())])


@blueprint.post(ROOT)
@spec.validate(tags=["poe"])
def create(json: ProjectBody) -> Json[Row]:
    """Create a project."""
    return json_response(_row(conversations.create_project(user(), json.name)))


@blueprint.get(ROOT + "/<int:project_id>")
@spec.validate(tags=["poe"])
def read(project_id: int) -> Json[Row]:
    """Return a project."""
    return json_response(_row(conversations.project(user(), project_id)))


@blueprint.route(ROOT + "/<int:project_id>", methods=["PUT", "PATCH"])
@spec.validate(tags=["poe"])
def rename(project_id: int, json: ProjectBody) -> Json[Row]:
    """Rename a project."""
    return json_response(_row(conversations.rename_project(user(), project_id, json.name)))


@blueprint.delete(ROOT + "/<int:project_id>")
@spec.validate(tags=["poe"])
def delete(project_id: int) -> Json[Deleted]:
    """Delete a project; its conversations stay and belong to none."""
    conversations.delete_project(user(), project_id)
    return json_response({"message": "Project deleted"})


def _row(project: Project) -> Row:
    return {"id": project.id, "name": project.name, "created_at": clock.to_seconds(project.created_at, "")}
