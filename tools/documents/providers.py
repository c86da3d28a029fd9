"""The page of the packaged profiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from receiver.dialects.spec import catalog, describe
from tools.documents.markdown import MADE, code, plain, table, value

#: Seconds.
_UNITS: Final = ((86_400, "days"), (3600, "hours"), (60, "minutes"), (1, "s"))
_SPANS: Final = {
    "window_seconds": "results are kept for",
    "usual_seconds": "usual run; then the first question",
    "longest_seconds": "longest run; then the task is given up",
    "create_timeout_seconds": "a create without an answer by then may have arrived",
}


def page() -> str:
    """Return the page."""
    profiles: dict[str, dict[str, Any]] = {name: describe(each) for name, each in sorted(catalog().items())}
    return "".join(
        [
            f"{MADE}\n\n# Providers\n\nThe profiles that ship with the package. What the words mean, and how to add a "
            "seller of your own by one file: [profiles](../profiles.md).\n\n",
            table(
                ("profile", "kinds", "repeated ids", "asked", "signatures", "kept for"),
                (
                    (
                        f"[{name}](#{name})",
                        " ".join(map(code, each["kinds"])),
                        "refused" if each["create_id"] == "enforced" else "not known to be refused",
                        "yes" if each["query"] else "no",
                        code(each["signature_mode"]),
                        _span(each["window_seconds"]),
                    )
                    for name, each in profiles.items()
                ),
            ),
            *(part for name, each in profiles.items() for part in _profile(name, each)),
        ]
    )


def _span(seconds: float) -> str:
    size, unit = next(each for each in _UNITS if seconds % each[0] == 0 and seconds >= each[0])
    return f"{seconds / size:g} {unit}"


def _profile(name: str, profile: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {name} {{ #{name} }}\n\n"
    facts = {
        "base URL": code(profile.get("base_url", "")) or "must be set by the account",
        "regions": ", ".join(f"`{region}`: `{url}`" for region, url in profile.get("regions", {}).items()),
        "credentials": " or ".join(map(code, profile["credentials"])),
        "tasks in flight": profile["concurrency"],
        "requests per minute": profile.get("requests_per_minute", ""),
        "ids are rewritten": "yes" if profile["rewrites_ids"] else "",
        "media come from": " ".join(map(code, profile.get("asset_hosts", ()))),
        **{text: _span(profile[key]) for key, text in _SPANS.items()},
    }
    yield table(("", ""), ((text, given) for text, given in facts.items() if given != ""))
    for kind, its in profile["kinds"].items():
        yield from _kind(kind, its)
    yield from _errors(profile["errors"])
    yield "Sources:\n\n" + "".join(f"- {each}\n" for each in profile["sources"]) + "\n"


def _kind(kind: str, its: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {kind}\n\n"
    routes = [
        (text, code(its[key]))
        for key, text in (
            ("create_path", "create"),
            ("query_path", "query"),
            ("external_query_path", "query by our id"),
            ("list_path", "list"),
            ("external_id_path", "our id stands in"),
            ("callback_path", "the callback URL stands in"),
        )
        if key in its
    ]
    results = " ".join(map(code, its["results"]))
    routes.append(("result in", results + (", whose sound is cut out" if its["audio_in"] == "videos" else "")))
    if its.get("formats"):
        routes.append(("formats of each clip", " ".join(map(code, its["formats"]))))
    if its.get("constants"):
        routes.append(
            ("always sent", ", ".join(f"`{name}`: {value(given)}" for name, given in its["constants"].items()))
        )
    yield table(("", ""), routes)
    yield table(
        ("field", "type", "needed", "limits", "meaning"),
        (
            (
                code(each["name"]),
                each["type"],
                "yes" if each["required"] else "",
                _limits(each),
                plain(each.get("help", "")),
            )
            for each in its["fields"]
        ),
    )
    for group in its.get("exactly_one", ()):
        yield f"Exactly one of {', '.join(map(code, group))}.\n\n"
    if its.get("source"):
        yield f"Source: {its['source']}\n\n"


def _limits(field: Mapping[str, Any]) -> str:
    told = [f"{field['max_chars']} characters"] if "max_chars" in field else []
    if "min" in field or "max" in field:
        told.append(f"{field.get('min', '…')} to {field.get('max', '…')}")
    if "decimals" in field:
        told.append(f"{field['decimals']} decimals" if field["decimals"] != 1 else "1 decimal")
    told += [" ".join(map(value, field["choices"]))] if field.get("choices") else []
    told += [f"else {value(field['default'])}"] if "default" in field else []
    told += ["sent as text"] if field.get("type") == "number" and field.get("send_as") == "text" else []
    return ", ".join(told)


def _errors(errors: Mapping[str, Any]) -> Iterator[str]:
    yield "### Errors\n\n"
    by_class: dict[str, list[str]] = {}
    for name, meaning in (*errors.get("codes", {}).items(), *errors.get("statuses", {}).items()):
        status = name in errors.get("statuses", {}) and name not in errors.get("codes", {})
        by_class.setdefault(str(meaning), []).append(f"HTTP {name}" if status else code(name))
    yield table(
        ("class", "codes and statuses"), ((code(name), ", ".join(each)) for name, each in sorted(by_class.items()))
    )
    for key, text in (("exists", "it was made already"), ("unknown", "there is no such task")):
        if errors.get(key):
            yield f"Words that mean that {text}: `{errors[key]}`.\n\n"
    if errors.get("sure_on_5xx"):
        yield f"Believed under a 5xx too: {', '.join(map(code, errors['sure_on_5xx']))}.\n\n"
