"""Bexio's scopes and Keycloak's words of refusal, and what the control API may change of it.

Sources: the realm's discovery document (a part of its scopes), Keycloak's token endpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

from flow8_lab.dialect import Conduct, Refusals
from flow8_lab.quirks import NO_QUIRKS, Quirks

SERVICE = "bexio"
COMPANY_NAME = "Beispiel GmbH"
_SCOPES = """
    openid profile email offline_access company_profile accounting file
    article_edit article_show bank_account_show bank_payment_edit bank_payment_show contact_edit contact_show
    kb_article_order_edit kb_article_order_show kb_bill_edit kb_bill_show kb_credit_voucher_edit kb_credit_voucher_show
    kb_delivery_edit kb_delivery_show kb_expense_edit kb_expense_show kb_invoice_edit kb_invoice_show kb_offer_edit
    kb_offer_show kb_order_edit kb_order_show monitoring_edit monitoring_show note_edit note_show payroll_employee_show
    project_edit project_show stock_edit task_edit task_show
"""
SCOPES = frozenset(_SCOPES.split())
SIGN_IN_SCOPES = ("openid", "profile", "email", "offline_access")

REFUSALS: Refusals = {
    "client": (
        401,
        {"error": "unauthorized_client", "error_description": "Invalid client or Invalid client credentials"},
    ),
    "client.disabled": (401, {"error": "invalid_client", "error_description": "Client disabled"}),
    "code": (400, {"error": "invalid_grant", "error_description": "Code not valid"}),
    "code.redirect_uri": (400, {"error": "invalid_grant", "error_description": "Incorrect redirect_uri"}),
    "code.verifier": (400, {"error": "invalid_grant", "error_description": "PKCE verification failed"}),
    "refresh": (400, {"error": "invalid_grant", "error_description": "Token is not active"}),
    "refresh.revoked": (400, {"error": "invalid_grant", "error_description": "Session not active"}),
    "refresh.spent": (400, {"error": "invalid_grant", "error_description": "Stale token"}),
    "refresh.unknown": (400, {"error": "invalid_grant", "error_description": "Invalid refresh token"}),
    "grant_type": (400, {"error": "unsupported_grant_type", "error_description": "Unsupported grant_type"}),
    "scope": (400, {"error": "invalid_scope", "error_description": "Invalid scopes"}),
}

CONDUCT = Conduct(callback_iss="good")


@dataclass(frozen=True)
class BexioSettings:
    """What the control API may change beside `Conduct` and `Quirks`. `company`: the number of the company that the user
    picks; a token is for one. `forbidden`: the user lacks the right for what is asked of the API. `tell_idle`: token
    replies say how long the session may idle."""

    conduct: Conduct = CONDUCT
    quirks: Quirks = NO_QUIRKS
    company: int = 4_711
    forbidden: bool = False
    tell_idle: bool = False
