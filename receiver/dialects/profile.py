"""The records of a provider profile: what one provider takes, answers and promises. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from re import Pattern

from receiver.core.errors import Misconfigured
from receiver.core.model import CreateId, Format, SignatureMode
from receiver.dialects.values import is_base_url


class FieldType(StrEnum):
    """The JSON type of an input field."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"


class SendAs(StrEnum):
    """How a number travels (providers.md D9); whole numbers alone are a matter of `FieldSpec.decimals`."""

    NUMBER = "number"
    TEXT = "text"


class CredentialKind(StrEnum):
    """What a provider takes in the Authorization header."""

    API_KEY = "api_key"
    KEY_PAIR = "key_pair"


class AudioIn(StrEnum):
    """Where the sound of a result is."""

    AUDIOS = "audios"  #: in files of its own
    VIDEOS = "videos"  #: only inside the video


class ErrorClass(StrEnum):
    """What an error code of a provider means for us."""

    AUTHENTICATION = "authentication"  #: our credentials are refused: the account pauses
    CLOCK = "clock"  #: the same, because of the token's times
    ACCOUNT = "account"  #: the contract, the balance or a whitelist: the account pauses
    TASK = "task"  #: this request can never work
    MESSAGE = "message"  #: only the message tells (providers.md D15)
    MISSING = "missing"  #: a create is refused; a query knows no such task (providers.md D16)
    RATE = "rate"  #: too fast; nothing was made
    CONCURRENCY = "concurrency"  #: too many tasks in flight; nothing was made
    UNSURE = "unsure"  #: trouble on their side: a create may have arrived, as with whatever is not listed


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """One field that a submitter may or must give."""

    name: str
    type: FieldType
    required: bool = False
    #: Unicode code points (providers.md D13); None means no limit.
    max_chars: int | None = None
    #: Both ends are allowed.
    min: float | None = None
    max: float | None = None
    #: Digits after the point that a number may have; None means any.
    decimals: int | None = None
    #: The only values allowed; empty means any.
    choices: tuple[str | int | float, ...] = ()
    #: Taken where the submitter gives nothing.
    default: str | int | float | bool | None = None
    #: For people: what it is, and limits that cannot be checked here.
    help: str = ""
    #: Dotted place in the request body.
    path: str
    send_as: SendAs = SendAs.NUMBER


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSpec:
    """One product of a provider."""

    name: str
    create_path: str
    #: Holds `{id}` once, for the provider's id; None where the provider has no query route.
    query_path: str | None
    #: The same for our id; where the profile names none, one route takes both.
    external_query_path: str | None
    #: Ids that one question may name, joined by commas.
    ids_per_query: int
    #: Takes `pageNum`, from 1, and `pageSize`, newest first; None where there is no list.
    list_path: str | None
    #: Tasks on a full page.
    page_size: int
    #: In the order in which they are sent.
    fields: tuple[FieldSpec, ...]
    #: Groups of names of which exactly one must be given.
    exactly_one: tuple[tuple[str, ...], ...] = ()
    #: Sent with every create: dotted place to value.
    constants: Mapping[str, str | int | float | bool]
    #: Dotted places in the request body; None means that the provider takes no such thing.
    external_id_path: str | None
    callback_path: str | None
    #: Names of the lists in a result that hold media; `videos` holds videos, any other one sound.
    results: tuple[str, ...]
    audio_in: AudioIn
    #: Every clip must come in each of these before a task counts as whole.
    formats: tuple[Format, ...]
    #: The document that says so; None where the profile's own sources do.
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One provider, as its TOML file states it."""

    name: str
    #: Scheme and host, without a slash at the end; None where each account must give its own.
    base_url: str | None
    #: Other hosts of the same provider, by the name under which an account may ask for them.
    regions: Mapping[str, str]
    create_id: CreateId
    #: Whether a task can be asked after.
    query: bool
    #: Whether a gateway names tasks by ids of its own, which its provider's callbacks do not know.
    rewrites_ids: bool
    kinds: Mapping[str, KindSpec]
    credentials: tuple[CredentialKind, ...]
    signature_mode: SignatureMode
    #: Envelope codes, as text, that mean success.
    ok_codes: frozenset[str]
    #: Whether a success may come without an envelope around it.
    bare: bool
    #: By envelope code, as text.
    codes: Mapping[str, ErrorClass]
    #: Codes that settle an answer also under a status of 500 or more, where else nothing is sure.
    sure_on_5xx: frozenset[str]
    #: By HTTP status, for JSON answers without a listed code, or with one that would reject the task.
    statuses: Mapping[int, ErrorClass]
    #: Messages of class `MESSAGE`: the external id was used before; None matches nothing.
    exists: Pattern[str] | None
    #: Messages of class `MESSAGE`: no such task; None matches nothing.
    unknown: Pattern[str] | None
    #: Registrable suffixes from which media may come.
    asset_hosts: tuple[str, ...]
    #: How long the provider keeps results.
    window: timedelta
    #: How long a task usually runs, and how long it can run at most.
    usual: timedelta
    longest: timedelta
    #: Tasks in flight, unless the account says otherwise.
    concurrency: int
    #: Requests of every sort, where the provider states a limit; None where none is known.
    requests_per_minute: int | None
    #: From the first byte sent to the last byte of the answer of a create.
    create_timeout: timedelta
    sources: tuple[str, ...]

    def address(self, given: str | None) -> str:
        """
        Return the base URL of an account whose settings say *given*: a URL, the name of a region, or nothing.

        Raises:
            Misconfigured: Nothing is given and the provider has no host of its own, or it is neither.
        """
        url = self.regions.get(given, given.rstrip("/")) if given else self.base_url
        if url is None:
            raise Misconfigured(f"set base_url: {self.name} is software that runs on many hosts")
        if not is_base_url(url):
            regions = "".join(f", {name}" for name in sorted(self.regions))
            raise Misconfigured(
                f"base_url must be http(s)://host[:port][/path]{regions and f' or one of {regions[2:]}'}"
            )
        return url
