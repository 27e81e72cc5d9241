"""What the door asks at a login: who is this, and which home does he get."""

from __future__ import annotations

from feedgate.access.principals import role_session_for_user
from feedgate.files.home import HomeDirectory, SessionContext
from feedgate.gateway.services import Services
from feedgate.identity.users import GatewayUser

__all__ = ["GatewayLogin"]


class GatewayLogin:
    """``sftp.server.Login`` over the services of this worker."""

    def __init__(self, services: Services) -> None:
        self._services = services

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

    def still_valid(self, user_name: str, fingerprint: str) -> bool:
        """Whether that user may still be connected with that SSH key."""
        user = self._services.users.get(user_name)
        return (
            user is not None
            and user.enabled
            and any(key.fingerprint == fingerprint for key in user.ssh_public_keys)
        )

    def _wake_loader(self, _landing_id: str) -> None:
        self._services.wake_loader()
