"""Reading the settings again while the server runs (SIGHUP): no connection and no job notices but by what changed.

Each part is taken whole or left as it was: settings, certificates, secrets of senders, scripts. What cannot be taken is an
error in the log, and the server goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from minwebhook.api.context import Services
from minwebhook.api.dispatch import Api
from minwebhook.configuration import load_hook_secrets, merge_live
from minwebhook.errors import ApiError, MinwebhookError
from minwebhook.http.tls import ServerTls
from minwebhook.observability import log
from minwebhook.settings import Settings

logger = logging.getLogger(__name__)


class Reload:
    """What a reload needs to know, and does."""

    def __init__(
        self,
        services: Services,
        api: Api,
        tls: ServerTls | None,
        *,
        read_settings: Callable[[], Settings],
        deploy: Callable[[Settings], Awaitable[None]],
    ) -> None:
        self._services = services
        self._api = api
        self._tls = tls
        self._read_settings = read_settings
        self._deploy = deploy

    async def run(self) -> None:
        """Reads everything again and takes what can be taken."""
        services = self._services
        try:
            wanted = self._read_settings()
        except MinwebhookError as error:
            logger.error("the settings cannot be read, all stay as they are: %s", error)
            wanted = services.settings
        settings, changed, refused = merge_live(services.settings, wanted)
        if bool(settings.server.tls_cert) != (self._tls is not None):
            logger.error("TLS can be switched on and off by a restart only")
            settings = services.settings
            changed = []
        services.settings = settings
        services.health.min_free_disk_bytes = settings.server.min_free_disk_bytes
        log.set_level(settings.server.log_level)
        self._api.reconfigure()
        if self._tls is not None:
            self._try("certificates", lambda: self._reload_tls(settings))
        self._try("hook_secrets", lambda: self._reload_secrets(settings))
        try:
            await self._deploy(settings)
        except (MinwebhookError, ApiError) as error:
            logger.error("scripts stay as they are: %s", error)
        for name in changed:
            logger.info("%s has changed", name)
        for name in refused:
            logger.warning("%s has another value now, which counts from the next start on", name)
        logger.info("reloaded: %d settings changed, %d wait for a restart", len(changed), len(refused))

    def _reload_tls(self, settings: Settings) -> None:
        assert self._tls is not None  # noqa: S101 - asked by the caller
        self._tls.reload(settings.server.tls_cert, settings.server.tls_key)

    def _reload_secrets(self, settings: Settings) -> None:
        self._services.hook_secrets = load_hook_secrets(settings.server.hook_secrets)

    def _try(self, what: str, step: Callable[[], None]) -> None:
        try:
            step()
        except MinwebhookError as error:
            logger.error("%s stay as they are: %s", what, error)
