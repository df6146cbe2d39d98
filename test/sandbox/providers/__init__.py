"""The five providers, by the name that is also their path prefix."""

from providers.campaignlark import CampaignLark
from providers.mailingcore import MailingCore

PROVIDERS = (MailingCore, CampaignLark)
