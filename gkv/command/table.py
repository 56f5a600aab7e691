"""The commands: the one table from which the parser, the help and the completion are made. Pure."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of a command; one without `value` is a switch."""

    name: str
    why: str
    value: str = ""
    short: str = ""
    default: str = ""

    @property
    def dest(self) -> str:
        return self.name.removeprefix("--").replace("-", "_")


@dataclass(frozen=True, slots=True)
class Argument:
    """What a command takes by its place: `count` is "1", "?" (perhaps one), "+" (one or more) or "*"."""

    name: str
    why: str
    count: str = "1"


@dataclass(frozen=True, slots=True)
class Command:
    """A command; `run` is its function, as file and name."""

    name: str
    group: str
    about: str
    run: str
    arguments: tuple[Argument, ...] = ()
    flags: tuple[Flag, ...] = ()
    more: str = field(default="")

    @property
    def usage(self) -> str:
        shapes = {"1": "{}", "?": "[{}]", "+": "{} ...", "*": "[{} ...]"}
        return " ".join(["gkv", self.name, "[FLAG ...]", *[shapes[one.count].format(one.name) for one in self.arguments]])


GENERAL = (
    Flag("--url", "where the servers are, or GKV_URL; with several the next one is asked when one fails", "URL[,URL...]"),
    Flag("--token", "the token to show, or GKV_TOKEN; everybody on this machine can see a flag", "TOKEN"),
    Flag("--token-file", "a file with it, or GKV_TOKEN_FILE", "FILE"),
    Flag("--tls-ca", "who signs the servers' certificates, or GKV_TLS_CA (default: the system's authorities)", "FILE"),
    Flag("--tls-cert", "a certificate to show, or GKV_TLS_CERT", "FILE"),
    Flag("--tls-key", "its key, or GKV_TLS_KEY", "FILE"),
    Flag("--timeout", "time that a call has, or each batch or page of one (default: 10s; export, import: 1m)", "TIME"),
    Flag("--json", "JSON for programs"),
)
_YES = Flag("--yes", "do not ask", short="-y")
_DRY_RUN = Flag("--dry-run", "show what would follow, and end", short="-n")
_WAIT = Flag("--wait", "stay until it is done, and show how far it is")
_PREFIX = Flag("--prefix", "only keys that begin with it", "PREFIX")
_WEIGHT = Flag("--weight", "its share, against 1 for an ordinary node", "X")
_NODE = Argument("NODE", "its id, as gkv members shows it")
_KEYS = Argument("KEY", "a key", "+")
_RESUME = (
    Flag("--resume", "go on where the last run was interrupted"),
    Flag("--restart", "begin anew, whatever the last run has left"),
)
_QUIET = Flag("--quiet", "say nothing of the progress", short="-q")

COMMANDS = (
    Command(
        "get",
        "keys",
        "Show the value of a key: JSON as it is stored, or its bytes. Of several keys, a line each that import takes.",
        "single:get",
        (_KEYS,),
        (Flag("--text", "a string without quotes and escapes", short="-t"),),
    ),
    Command(
        "set",
        "keys",
        "Set a key. VALUE is JSON if it reads as JSON, else a string.",
        "single:set_key",
        (Argument("KEY", "a key"), Argument("VALUE", "its value", "?")),
        (
            Flag("--string", "VALUE is a string, whatever it looks like", short="-s"),
            Flag("--file", "the value is the content of a file, as bytes; - for standard input", "FILE", "-f"),
            Flag("--type", "the media type of bytes; application/json for JSON", "TYPE"),
            Flag("--ttl", "it expires after that: 90s, 1h", "TIME"),
            Flag("--if-absent", "only if there is no value"),
            Flag("--if-version", "only if this version is there, or * for any", "VERSION"),
        ),
    ),
    Command(
        "del",
        "keys",
        "Delete keys; with --prefix all that begin with it, once you have agreed.",
        "single:delete",
        (Argument("KEY", "a key", "*"),),
        (Flag("--prefix", "all keys that begin with it; '' for all that there are", "PREFIX"), _YES, _DRY_RUN),
    ),
    Command(
        "ls",
        "keys",
        "List keys in their order.",
        "single:ls",
        (Argument("PREFIX", "what they begin with", "?"),),
        (
            Flag("--long", "with seconds left, version, size and type", short="-l"),
            Flag("--delimiter", "what is below it is shown once, as directories are", "TEXT", "-d"),
            Flag("--limit", "at most so many", "N"),
        ),
    ),
    Command(
        "export",
        "keys",
        "Write all keys to a file, a JSON object on each line, in their order.",
        "export:export",
        (Argument("FILE", "where to; - for standard output", "?"),),
        (_PREFIX, *_RESUME, Flag("--jobs", "pages that are asked for at once (default: 1)", "N", "-j"), _QUIET),
        "Until FILE is whole it is FILE.part, and FILE.part.state says how far it is. Seconds that a key has left are those of "
        "the moment in which it was read. The keys are not those of one moment: each that is there all the time is in it once.",
    ),
    Command(
        "import",
        "keys",
        "Set all that stands in a file, as export writes it.",
        "load:load",
        (Argument("FILE", "where from; - for standard input"),),
        (
            *_RESUME,
            Flag("--state", "the file that says how far it is (default: FILE.state)", "FILE"),
            Flag("--jobs", "batches that are sent at once (default: 4)", "N", "-j"),
            _QUIET,
        ),
        "A line is an object with key, value and, where they have a meaning, encoding, type and ttl, as /set takes it. Of a "
        "key that stands twice the last line counts. A batch of which it is not known whether it was written is written again.",
    ),
    Command(
        "status",
        "cluster",
        "Show how the cluster is: whether it is ready and why not, which node is full, how far a change or a filling is.",
        "status:status",
    ),
    Command("members", "cluster", "Show the members.", "status:members"),
    Command(
        "ring", "cluster", "Show the share of the keys that each node answers for, and the one by its weight.", "status:ring"
    ),
    Command("locate", "cluster", "Show which nodes have a key.", "single:locate", (_KEYS,)),
    Command(
        "snapshot",
        "cluster",
        "Copy all nodes and the member list to a new directory, and say how to have them back.",
        "snapshots:snapshot",
        (Argument("DIR", "where to"),),
        (Flag("--partial", "without the nodes that are not up"),),
    ),
    Command(
        "verify",
        "cluster",
        "Look at everything in snapshots, with no node and no proxy: a file, a directory with data.mdb, or a DIR of snapshot.",
        "snapshots:verify",
        (Argument("PATH", "a snapshot", "+"),),
    ),
    Command(
        "join",
        "cluster",
        "Show about what one more node would get, ask, and become gkv-node, which joins.",
        "operator:join",
        (Argument("PORT", "the port that it listens on"),),
        (
            _WEIGHT,
            Flag("--zone", "its zone", "ZONE"),
            Flag("--data", "its directory", "DIR"),
            _YES,
            _DRY_RUN,
        ),
        "Other settings of the node, as tokens and TLS, come from GKV_ variables or the file of GKV_CONFIG, as for gkv-node.",
    ),
    Command(
        "leave",
        "cluster",
        "Show what would move, ask, and have a member leave; one that is down is removed.",
        "operator:leave",
        (_NODE,),
        (Flag("--force", "even if there are fewer nodes than copies then"), _YES, _DRY_RUN, _WAIT),
    ),
    Command(
        "replace",
        "cluster",
        "Show what would move, ask, and have a process that was started with --standby take the place of a member.",
        "operator:replace",
        (Argument("OLD", "the id of the member"), Argument("NEW", "the id of the other")),
        (_YES, _DRY_RUN, _WAIT),
    ),
    Command(
        "weigh",
        "cluster",
        "Show what would move, ask, and give a member another weight or zone.",
        "operator:weigh",
        (_NODE,),
        (_WEIGHT, Flag("--zone", "its zone, '' for none", "ZONE"), _YES, _DRY_RUN, _WAIT),
    ),
    Command(
        "copies",
        "cluster",
        "Show what would move, ask, and have another number of copies of each key.",
        "operator:copies",
        (Argument("N", "how many there are to be"),),
        (Flag("--force", "even if there are fewer nodes"), _YES, _DRY_RUN, _WAIT),
    ),
    Command(
        "change",
        "cluster",
        "Show the change of the ring that is under way; have it pause, go on, go at another rate, or be taken back.",
        "operator:change",
        (),
        (
            Flag("--pause", "nothing moves until --resume"),
            Flag("--resume", "it goes on"),
            Flag("--rate", "records a second that a node gives, 0 for no bound, usual for its --fill-rate", "N"),
            Flag("--undo", "the ring in force stays, once you have agreed"),
            _YES,
            _DRY_RUN,
            _WAIT,
        ),
    ),
    Command(
        "accept-loss",
        "cluster",
        "Show what would follow, ask, and accept that what a member had is lost, where keys wait for it.",
        "operator:accept_loss",
        (_NODE,),
        (_YES, _DRY_RUN),
    ),
)
"""In the order of the help."""
