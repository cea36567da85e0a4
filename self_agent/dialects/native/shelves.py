"""The favourites panel and the tags of the native frontend: folders in the native envelope, tags bare."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint
from pydantic import Field
from typing_extensions import TypedDict

from core import clock
from core.web import Json, json_response
from self_agent.dialects.base import shelves, user
from self_agent.dialects.native.answers import Data, Deleted, Time
from self_agent.models import Folder, Tag
from self_agent.openapi import Body, Query, spec
from self_agent.shelves import DEFAULT

FOLDERS = "/api/v1/folders"
TAGS = "/api/v1/conversation_tags"

FolderId = Annotated[str, Field(examples=[DEFAULT])]
TagId = Annotated[str, Field(examples=["450f52c2-1798-41d4-81c1-b71940b082cf"])]

blueprint = Blueprint("shelves", __name__)


class FolderBody(Body):
    """What a folder is called."""

    name: str = Field(examples=["Travel"])


class MemberBody(Body):
    """What to put into a folder, or to take out of it."""

    conversation_id: str = Field(examples=["demo"])


class TagsQuery(Query):
    """Whose tags; of all conversations, unless one is named."""

    conversation_id: str | None = None


class TagBody(Body):
    """What a tag says."""

    tag: str = Field(examples=["work"])


class NewTagBody(TagBody):
    """A tag, and what it is for."""

    conversation_id: str = Field(examples=["demo"])


class FolderShown(TypedDict):
    """A folder, and what is in it in the order in which it was added."""

    folder_id: str
    name: str
    conversation_ids: list[str]
    created_at: Time
    updated_at: Time
    is_default: bool


class TagShown(TypedDict):
    """A tag of a conversation."""

    id: str
    conversation_id: str
    tag: str
    created_at: Time
    updated_at: Time


class Tags(TypedDict):
    """Tags, oldest first."""

    tags: list[TagShown]


class Gone(TypedDict):
    """That the tag is gone."""

    ok: bool


# --- folders


@blueprint.get(FOLDERS + "/")
@spec.validate(tags=["self_agent"])
def list_folders() -> Json[Data[list[FolderShown]]]:
    """List the folders, the default one first."""
    return json_response({"data": [_folder(folder) for folder in shelves.folders(user())]})


@blueprint.post(FOLDERS + "/")
@spec.validate(tags=["self_agent"])
def create_folder(json: FolderBody) -> Json[Data[FolderShown]]:
    """Create a folder."""
    return json_response({"data": _folder(shelves.create_folder(user(), json.name))})


@blueprint.patch(FOLDERS + "/<folder_id>")
@spec.validate(tags=["self_agent"])
def rename_folder(folder_id: FolderId, json: FolderBody) -> Json[Data[FolderShown]]:
    """Rename a folder; the default one cannot be."""
    return json_response({"data": _folder(shelves.rename_folder(user(), folder_id, json.name))})


@blueprint.delete(FOLDERS + "/<folder_id>")
@spec.validate(tags=["self_agent"])
def delete_folder(folder_id: FolderId) -> Json[Data[Deleted]]:
    """Delete a folder, not what is in it; the default one cannot be."""
    shelves.delete_folder(user(), folder_id)
    return json_response({"data": {"success": True}})


@blueprint.post(FOLDERS + "/<folder_id>/add")
@spec.validate(tags=["self_agent"])
def add(folder_id: FolderId, json: MemberBody) -> Json[Data[FolderShown]]:
    """Put a conversation into a folder; doing it twice changes nothing."""
    return json_response({"data": _folder(shelves.add(user(), folder_id, json.conversation_id))})


@blueprint.post(FOLDERS + "/<folder_id>/remove")
@spec.validate(tags=["self_agent"])
def remove(folder_id: FolderId, json: MemberBody) -> Json[Data[FolderShown]]:
    """Take a conversation out of a folder; doing it twice changes nothing."""
    return json_response({"data": _folder(shelves.remove(user(), folder_id, json.conversation_id))})


# --- tags


@blueprint.get(TAGS + "/")
@spec.validate(tags=["self_agent"])
def list_tags(query: TagsQuery) -> Json[Tags]:
    """List the tags of a conversation, of which an unknown one has none, or of all."""
    return json_response({"tags": [_tag(tag) for tag in shelves.tags(user(), query.conversation_id)]})


@blueprint.get(TAGS + "/all")
@spec.validate(tags=["self_agent"])
def list_all_tags() -> Json[Tags]:
    """List the tags of all conversations."""
    return json_response({"tags": [_tag(tag) for tag in shelves.tags(user())]})


@blueprint.post(TAGS + "/")
@spec.validate(tags=["self_agent"])
def create_tag(json: NewTagBody) -> Json[TagShown]:
    """Give a conversation a tag; one that it has already is returned."""
    return json_response(_tag(shelves.add_tag(user(), json.conversation_id, json.tag)))


@blueprint.put(TAGS + "/<tag_id>")
@spec.validate(tags=["self_agent"])
def change_tag(tag_id: TagId, json: TagBody) -> Json[TagShown]:
    """Change what a tag says."""
    return json_response(_tag(shelves.change_tag(user(), tag_id, json.tag)))


@blueprint.delete(TAGS + "/<tag_id>")
@spec.validate(tags=["self_agent"])
def delete_tag(tag_id: TagId) -> Json[Gone]:
    """Take a tag away."""
    shelves.delete_tag(user(), tag_id)
    return json_response({"ok": True})


# --- rendering


def _folder(folder: Folder) -> FolderShown:
    return {
        "folder_id": folder.id,
        "name": folder.name,
        "conversation_ids": list(folder.conversations),
        "created_at": clock.to_seconds(folder.created_at),
        "updated_at": clock.to_seconds(folder.updated_at),
        "is_default": folder.id == DEFAULT,
    }


def _tag(tag: Tag) -> TagShown:
    return {
        "id": tag.id,
        "conversation_id": tag.conversation_id,
        "tag": tag.tag,
        "created_at": clock.to_seconds(tag.created_at),
        "updated_at": clock.to_seconds(tag.updated_at),
    }
