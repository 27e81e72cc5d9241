"""What the door asks at a login: who is this, and which home does he get."""

from __future__ import annotations

import asyncio
import time

from feedgate.access.principals import role_session_for_user
from feedgate.errors import FeedgateError
from feedgate.files.home import HomeDirectory, SessionContext
from feedgate.gateway.lifecycle import Credentials
from feedgate.gateway.services import Services
from feedgate.identity.gate import key_refusal, user_refusal
from feedgate.identity.users import GatewayUser
from feedgate.limits import KEY_USE_RECORDED_S, SCORES_KEPT_MAX
from feedgate.stack.access_tags import rules_of

__all__ = ["GatewayLogin"]


class GatewayLogin:
    """``sftp.server.Login`` over the services of this worker."""

    def __init__(self, services: Services) -> None:
        self._services = services
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
