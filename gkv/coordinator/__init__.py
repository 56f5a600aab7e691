"""One client request in, parallel calls to the owners, one result out.

Promises: every key gets exactly one answer - its value, "certainly missing", or a failure that says why - within the
deadline; nothing is reported missing that could not be asked. Leaves to others: how requests and answers look to clients
(`gkv.wire`, `gkv.api`), and the bytes on the way (`gkv.net`). Calls switch greenlets.
"""

from gkv.coordinator.channels import Channels
from gkv.coordinator.coordinator import MAX_ANSWER, Coordinator, Written
from gkv.coordinator.failures import DISK_FULL

__all__ = ["DISK_FULL", "MAX_ANSWER", "Channels", "Coordinator", "Written"]
