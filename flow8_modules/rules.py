"""A row of a vendor's error table: which error of ours it is, and what to say."""

from __future__ import annotations

from dataclasses import dataclass

from flow8_core.errors import Flow8Error


@dataclass(frozen=True)
class Rule:
    """`say` tells people what to do. `field` is the input at fault. `ambiguous`: it may have taken effect anyway."""

    error: type[Flow8Error]
    say: str
    field: str | None = None
    ambiguous: bool = False

    def raised(
        self,
        *,
        service: str,
        provider_code: str | None,
        retry_after: float | None = None,
        ambiguous: bool | None = None,
    ) -> Flow8Error:
        """The error to raise, with the vendor's own short code for support."""
        return self.error(
            self.say,
            path=None if self.field is None else f"input_mapping.{self.field}",
            service=service,
            provider_code=provider_code,
            retry_after=retry_after,
            ambiguous=self.ambiguous if ambiguous is None else ambiguous,
        )
