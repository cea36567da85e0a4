"""A chat of 10,000 messages opens as quickly as a short one, and does not jump while one reads up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from core.config import Settings
from self_agent.models import Message
from tests.page.browsing import PageServer
from tests.page.conftest import Serve
from tests.page.steps import questions, replies

if TYPE_CHECKING:
    from playwright.sync_api import Page
