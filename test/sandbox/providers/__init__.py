"""The five providers, by the name that is also their path prefix."""

from providers.campaignlark import CampaignLark
from providers.caramel import Caramel
from providers.mailingcore import MailingCore
from providers.owlat import Owlat
from providers.spotzee import Spotzee

PROVIDERS = (MailingCore, CampaignLark, Caramel, Owlat, Spotzee)
