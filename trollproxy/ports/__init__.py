"""What the core needs from outside, as protocols. `app.py` alone picks who fulfils them."""

from trollproxy.ports.call import UpstreamCall
from trollproxy.ports.store import Store
from trollproxy.ports.traffic import ClientStream, ProxyProbe, Upstream, UpstreamReply, UsageSink

__all__ = ["ClientStream", "ProxyProbe", "Store", "Upstream", "UpstreamCall", "UpstreamReply", "UsageSink"]
