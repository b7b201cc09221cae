"""The user of a request, and what is the user's own."""

from typing import Annotated

from fastapi import Depends, Header
from fastapi_app import Manager

from luminoracore_sdk.session import UserSessions
from luminoracore_sdk.utils.exceptions import SessionNotFoundError


def current_user(manager: Manager, x_user: Annotated[str, Header()]) -> UserSessions:
    """Return a handle that reaches nothing of another user. Put your authentication here, in place of the header."""
    return manager.for_user(x_user)


User = Annotated[UserSessions, Depends(current_user)]


async def own_conversation(conversation_id: str, user: User) -> str:
    """Return the id of a conversation of the user; that of another user is as unknown as one that does not exist."""
    if await user.get_session(conversation_id) is None:
        raise SessionNotFoundError(conversation_id)
    return conversation_id


Own = Annotated[str, Depends(own_conversation)]
