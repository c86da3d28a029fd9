"""A profile as plain values: for `--json`, for the documents, for whoever wants to see what a provider takes."""

from __future__ import annotations

from receiver.dialects.profile import FieldSpec, KindSpec, Profile


def describe(profile: Profile) -> dict[str, object]:
    """
    Return all of *profile* as what JSON can hold; times are seconds, and what is not there is left out.

    `kinds.<name>.fields` is a list in the order of the request; each field has its
    name, type and limits, each kind and the profile have their sources.
    """
    return _present(
        {
            "name": profile.name,
            "base_url": profile.base_url,
            "regions": dict(profile.regions),
            "credentials": list(profile.credentials),
            "create_id": profile.create_id,
            "query": profile.query,
            "rewrites_ids": profile.rewrites_ids,
            "signature_mode": profile.signature_mode,
            "asset_hosts": list(profile.asset_hosts),
            "window_seconds": profile.window.total_seconds(),
            "usual_seconds": profile.usual.total_seconds(),
            "longest_seconds": profile.longest.total_seconds(),
            "create_timeout_seconds": profile.create_timeout.total_seconds(),
            "concurrency": profile.concurrency,
            "requests_per_minute": profile.requests_per_minute,
            "envelope": {"ok": sorted(profile.ok_codes), "bare": profile.bare},
            "errors": {
                "codes": dict(profile.codes),
                "statuses": {str(status): meaning for status, meaning in profile.statuses.items()},
                "sure_on_5xx": sorted(profile.sure_on_5xx),
                "exists": profile.exists.pattern if profile.exists else None,
                "unknown": profile.unknown.pattern if profile.unknown else None,
            },
            "kinds": {name: _kind(kind) for name, kind in profile.kinds.items()},
            "sources": list(profile.sources),
        },
    )


def _kind(kind: KindSpec) -> dict[str, object]:
    return _present(
        {
            "create_path": kind.create_path,
            "query_path": kind.query_path,
            "external_query_path": kind.external_query_path,
            "ids_per_query": kind.ids_per_query,
            "list_path": kind.list_path,
            "page_size": kind.page_size if kind.list_path else None,
            "fields": [_field(field) for field in kind.fields],
            "exactly_one": [list(group) for group in kind.exactly_one],
            "constants": dict(kind.constants),
            "external_id_path": kind.external_id_path,
            "callback_path": kind.callback_path,
            "results": list(kind.results),
            "audio_in": kind.audio_in,
            "formats": list(kind.formats),
            "source": kind.source,
        },
    )


def _field(field: FieldSpec) -> dict[str, object]:
    return _present(
        {
            "name": field.name,
            "type": field.type,
            "required": field.required,
            "max_chars": field.max_chars,
            "min": field.min,
            "max": field.max,
            "decimals": field.decimals,
            "choices": list(field.choices),
            "default": field.default,
            "path": field.path,
            "send_as": field.send_as,
            "help": field.help,
        },
    )


def _present(values: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in values.items() if value not in (None, "", [], {})}
