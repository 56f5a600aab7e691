"""Puts together the observers of a server, from its settings, and keeps them up to date when the
settings are read again.
"""

from collections.abc import Callable, Iterable

from gkv import log
from gkv.api.http import Routes
from gkv.api.metrics import Figure, Meter, Metrics
from gkv.config import Settings
from gkv.net.server import Server
from gkv.process.reload import Reload


def observe(app: Routes, server: Server, figures: Callable[[], Iterable[Figure]], reload: Reload) -> None:
    """Have requests counted and logged, and `/metrics` answered, as the settings say; follow what
    changes about that.

    A server that nobody wants to know about is not observed at all, which costs it nothing.
    """
    meter = Meter(app.template)
    if reload.settings.metrics:
        Metrics(meter, figures).mount(app)

    def prepare(settings: Settings) -> Callable[[], None]:
        def take() -> None:
            log.configure(settings.log_format, access=settings.access_log, level=settings.log_level)
            server.observer = meter if settings.metrics or settings.access_log else None
            server.rename(settings.called)

        return take

    reload.begin(prepare)
