"""The five built-in providers, and those of shipped definitions, by the name that is also their path prefix."""

from providers.activecampaign import ActiveCampaign
from providers.brevo import Brevo
from providers.campaignlark import CampaignLark
from providers.caramel import Caramel
from providers.customerio import CustomerIo
from providers.hubspot import HubSpot
from providers.klaviyo import Klaviyo
from providers.listmonk import Listmonk
from providers.loops import Loops
from providers.mailchimp import Mailchimp
from providers.mailingcore import MailingCore
from providers.owlat import Owlat
from providers.resend import Resend
from providers.spotzee import Spotzee
from providers.webhook import Webhook

PROVIDERS = (MailingCore, CampaignLark, Caramel, Owlat, Spotzee, Webhook, Mailchimp, Loops, Brevo, HubSpot,
             Klaviyo, Listmonk, Resend, ActiveCampaign, CustomerIo)
