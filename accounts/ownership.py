"""Access to objects only through the account that owns them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypeVar

from django.db import models

from core.errors import ApiError
from core.ids import is_id

if TYPE_CHECKING:
    from accounts.models import Account

Owned = TypeVar("Owned", bound=models.Model)


class OwnedQuerySet(models.QuerySet[Owned]):
    """The queryset of a model that has an ``account``."""

    def of(self, account: Account) -> Self:
        return self.filter(account=account)

    def access(self, account: Account, id: str) -> Owned:
        """Return the account's object with that id.

        Raises 404 if there is none, or if it belongs to another account: the two look the same.
        """
        found = self.of(account).filter(pk=id).first() if is_id(id) else None
        if found is None:
            name = self.model._meta.verbose_name
            raise ApiError(404, "not_found", f"You have no {name} with this ID.")
        return found
