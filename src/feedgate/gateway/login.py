"""What the door asks at a login: who is this, and which home does he get."""

from __future__ import annotations

import asyncio
import time
import weakref

from feedgate.access.principals import RoleSession, role_session_for_user, session_policy
from feedgate.errors import FeedgateError
from feedgate.files.home import HomeDirectory, SessionContext
from feedgate.gateway.lifecycle import Credentials
from feedgate.gateway.services import Services
from feedgate.identity.gate import key_refusal, user_refusal
from feedgate.identity.users import GatewayUser
from feedgate.limits import KEY_USE_RECORDED_S, SCORES_KEPT_MAX
from feedgate.stack.access_tags import rules_of
from feedgate.stack.resources import User

__all__ = ["GatewayLogin"]


class GatewayLogin:
    """``sftp.server.Login`` over the services of this worker."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._sessions: weakref.WeakValueDictionary[int, RoleSession]
        self._sessions = weakref.WeakValueDictionary()
        self._opened = 0
        self._recorded: dict[tuple[str, str], float] = {}
        self._recording: set[asyncio.Task[None]] = set()
        self._passwords_of = -1
        self._takes_passwords = False

    def user(self, user_name: str) -> GatewayUser | None:
        """The user as served now, or None."""
        return self._services.users.get(user_name)

    def open_home(self, context: SessionContext) -> HomeDirectory:
        """Assume the user's role for this session and open its home.

        Raises:
            AccessDenied: the role does not let AWS Transfer assume it.
        """
        services = self._services
        session = role_session_for_user(
            services.stack, context.user.user, session_id=context.session_id, judge=services.judge
        )
        self._opened += 1
        self._sessions[self._opened] = session
        return HomeDirectory(
            context=context,
            buckets=services.guarded(session),
            database=services.database,
            on_landed=self._wake_loader,
            crash_at=services.crash_at,
            fidelity=services.fidelity,
        )

    def still_valid(self, credentials: Credentials) -> bool:
        """Whether who got in by these may stay: the gate of a login, asked again."""
        services = self._services
        user = services.users.get(credentials.user_name)
        now, address = time.time(), credentials.source_ip
        if user is None or user_refusal(user, address, now) is not None:
            return False
        if _lost_something(credentials.user, user.user):
            return False
        if not rules_of(services.stack.server.tags).admit(address):
            return False
        if credentials.by_password and user.password is None:
            return False
        if not credentials.fingerprint:
            return credentials.by_password
        return any(
            key.fingerprint == credentials.fingerprint and key_refusal(key, address, now) is None
            for key in user.ssh_public_keys
        )

    def renew_policies(self) -> None:
        """Bind open sessions by the session policies that their users have now."""
        services = self._services
        renewed = False
        for session in list(self._sessions.values()):
            user = services.users.get(session.user_name or "")
            if user is None:
                continue  # it ends anyway
            policy = session_policy(user.user)
            if policy != session.session_policy:
                session.renew(policy)
                renewed = True
        if renewed:
            services.judge.take_up(services.stack)

    def takes_passwords(self) -> bool:
        """Whether any user has a password."""
        generation = self._services.users_generation
        if self._passwords_of != generation:
            self._passwords_of = generation
            self._takes_passwords = self._services.users.any_password()
        return self._takes_passwords

    def used(self, user_name: str, fingerprint: str) -> None:
        """Record the use of an SSH key, now and then, and without waiting for the disk."""
        now = time.monotonic()
        key = (user_name, fingerprint)
        if now - self._recorded.get(key, -1e9) < KEY_USE_RECORDED_S:
            return
        if len(self._recorded) >= SCORES_KEPT_MAX:
            self._recorded.clear()
        self._recorded[key] = now
        task = asyncio.get_running_loop().create_task(self._record(user_name, fingerprint))
        self._recording.add(task)
        task.add_done_callback(self._recording.discard)

    async def _record(self, user_name: str, fingerprint: str) -> None:
        try:
            await self._services.users.record_key_use(user_name, fingerprint)
        except FeedgateError as error:
            self._services.log.warning("a key's use was not recorded", reason=str(error))

    def _wake_loader(self, _landing_id: str) -> None:
        self._services.wake_loader()


def _lost_something(before: User, now: User) -> bool:
    """Whether role or folders are not those of the login any more; a folder more is none lost."""
    return (
        before.role_arn != now.role_arn
        or before.home_directory_type != now.home_directory_type
        or (before.home_directory_type == "PATH" and before.home_directory != now.home_directory)
        or not set(before.home_directory_mappings) <= set(now.home_directory_mappings)
    )
