"""The favourites panel and the tags of the native frontend: folders in the native envelope, tags bare."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from core import clock
from core.web import ViewResult, json_response
from self_agent.dialects.base import shelves, user
from self_agent.models import Folder, Tag
from self_agent.openapi import Body, Query, spec
from self_agent.shelves import DEFAULT

FOLDERS = "/api/v1/folders"
TAGS = "/api/v1/conversation_tags"

blueprint = Blueprint("shelves", __name__)


class FolderBody(Body):
    """What a folder is called."""

    name: str


class MemberBody(Body):
    """What to put into a folder, or to take out of it."""

    conversation_id: str


class TagsQuery(Query):
    """Whose tags."""

    conversation_id: str


class TagBody(Body):
    """What a tag says."""

    tag: str


class NewTagBody(TagBody):
    """A tag, and what it is for."""

    conversation_id: str


# --- folders


@blueprint.get(FOLDERS + "/")
@spec.validate(tags=["self_agent"])
def list_folders() -> ViewResult:
    """List the folders, the default one first."""
    return json_response({"data": [_folder(folder) for folder in shelves.folders(user())]})


@blueprint.post(FOLDERS + "/")
@spec.validate(tags=["self_agent"])
def create_folder(json: FolderBody) -> ViewResult:
    """Create a folder."""
    return json_response({"data": _folder(shelves.create_folder(user(), json.name))})


@blueprint.patch(FOLDERS + "/<folder_id>")
@spec.validate(tags=["self_agent"])
def rename_folder(folder_id: str, json: FolderBody) -> ViewResult:
    """Rename a folder; the default one cannot be."""
    return json_response({"data": _folder(shelves.rename_folder(user(), folder_id, json.name))})


@blueprint.delete(FOLDERS + "/<folder_id>")
@spec.validate(tags=["self_agent"])
def delete_folder(folder_id: str) -> ViewResult:
    """Delete a folder, not what is in it; the default one cannot be."""
    shelves.delete_folder(user(), folder_id)
    return json_response({"data": {"success": True}})


@blueprint.post(FOLDERS + "/<folder_id>/add")
@spec.validate(tags=["self_agent"])
def add(folder_id: str, json: MemberBody) -> ViewResult:
    """Put a conversation into a folder; doing it twice changes nothing."""
    return json_response({"data": _folder(shelves.add(user(), folder_id, json.conversation_id))})


@blueprint.post(FOLDERS + "/<folder_id>/remove")
@spec.validate(tags=["self_agent"])
def remove(folder_id: str, json: MemberBody) -> ViewResult:
    """Take a conversation out of a folder; doing it twice changes nothing."""
    return json_response({"data": _folder(shelves.remove(user(), folder_id, json.conversation_id))})


# --- tags


@blueprint.get(TAGS + "/")
@spec.validate(tags=["self_agent"])
def list_tags(query: TagsQuery) -> ViewResult:
    """List the tags of a conversation; an unknown one has none."""
    return json_response({"tags": [_tag(tag) for tag in shelves.tags(user(), query.conversation_id)]})


@blueprint.get(TAGS + "/all")
@spec.validate(tags=["self_agent"])
def list_all_tags() -> ViewResult:
    """List the tags of all conversations."""
    return json_response({"tags": [_tag(tag) for tag in shelves.tags(user())]})


@blueprint.post(TAGS + "/")
@spec.validate(tags=["self_agent"])
def create_tag(json: NewTagBody) -> ViewResult:
    """Give a conversation a tag; one that it has already is returned."""
    return json_response(_tag(shelves.add_tag(user(), json.conversation_id, json.tag)))


@blueprint.put(TAGS + "/<tag_id>")
@spec.validate(tags=["self_agent"])
def change_tag(tag_id: str, json: TagBody) -> ViewResult:
    """Change what a tag says."""
    return json_response(_tag(shelves.change_tag(user(), tag_id, json.tag)))


@blueprint.delete(TAGS + "/<tag_id>")
@spec.validate(tags=["self_agent"])
def delete_tag(tag_id: str) -> ViewResult:
    """Take a tag away."""
    shelves.delete_tag(user(), tag_id)
    return json_response({"ok": True})


# --- rendering


def _folder(folder: Folder) -> dict[str, Any]:
    return {
        "folder_id": folder.id,
        "name": folder.name,
        "conversation_ids": list(folder.conversations),
        "created_at": clock.to_seconds(folder.created_at),
        "updated_at": clock.to_seconds(folder.updated_at),
        "is_default": folder.id == DEFAULT,
    }


def _tag(tag: Tag) -> dict[str, Any]:
    return {
        "id": tag.id,
        "conversation_id": tag.conversation_id,
        "tag": tag.tag,
        "created_at": clock.to_seconds(tag.created_at),
        "updated_at": clock.to_seconds(tag.updated_at),
    }
