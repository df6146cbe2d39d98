# contactsync_verify() compares with each provider's data, and contactsync_watch() checks the fields of a mapping. Both are
# called by a role that owns nothing but the servers.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('shared_preload_libraries' => '');

my %mapping = (
	mailingcore => '{"email": "email", "external_id": "id", "first_name": "first_name", "locale": "locale", "opt_in": "opt_in", "attributes": {"plan": "plan"}}',
	campaignlark => '{"email": "email", "first_name": "first_name", "opt_in": "opt_in", "tags": "tags", "attributes": {"plan": "plan"}}',
	owlat => '{"email": "email", "first_name": "first_name"}',
	spotzee => '{"email": "email", "external_id": "id", "first_name": "first_name", "locale": "locale", "attributes": {"plan": "plan"}}',
	caramel => '{"email": "email", "first_name": "first_name"}');

# Run a query as that role, and return its result, or its output and messages.
sub shop { return $node->safe_psql('postgres', "SET SESSION AUTHORIZATION shop; $_[0]"); }
sub shop_messages { return ($node->psql('postgres', "SET SESSION AUTHORIZATION shop; $_[0]"))[1, 2]; }

# Return the rows of contactsync_verify() as lines: name, ours, theirs, result, detail
sub verify
{
	my ($server, $samples) = @_;
	return shop("SELECT * FROM contactsync_verify('$server'" . (defined $samples ? ", $samples)" : ')'));
}

# Return only the rows of one name, without the name.
sub verified
{
	my ($server, $name, $samples) = @_;
	return join("\n", map { s/^\Q$name\E\|//r } grep { /^\Q$name\E\|/ } split(/\n/, verify($server, $samples)));
}

$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION contactsync;
	CREATE ROLE shop;
	CREATE TABLE customers (id int PRIMARY KEY, email text, first_name text, locale text, opt_in bool, tags int[], plan text);
	INSERT INTO customers SELECT g, format('c%s@example.com', g), 'Name ' || g, 'en', true, '{1}', 'gold' FROM generate_series(1, 3) g;
	GRANT SELECT, TRIGGER ON customers TO shop;
});
foreach my $provider (sort keys %mapping)
{
	create_server($node, $sandbox, $provider, account => "verify$provider", role => 'shop',
		server => { check_fields => undef, campaign_id => $provider eq 'mailingcore' ? 'cmp_sandbox' : undef,
			gateway_url => $provider eq 'caramel' ? $sandbox->url . '/caramel/gateway/v1' : undef });
	shop("SET client_min_messages = error; SELECT contactsync_watch('customers', 'verify$provider', '$mapping{$provider}')");
}

# nothing has been sent yet
is(verified('verifyowlat', 'contacts'), '0|0|ok|', 'no contacts here or there');
is(verified('verifyowlat', 'contact'), '', 'no contacts to look up');

$node->safe_psql('postgres', 'UPDATE customers SET first_name = first_name || $$!$$');
shop('CALL contactsync_run()');

is(verified('verifymailingcore', 'contacts'), '3|3|ok|', 'MailingCore: the same number of contacts');
like(verified('verifymailingcore', 'locale coverage'), qr/^\|\[\{"locale":"en","count":3,"hasTemplate":true\}.*\]\|ok\|$/, 'MailingCore: templates for all locales');
is(join(' ', sort split(/\n/, verified('verifymailingcore', 'contact'))), '1|1|ok| 2|2|ok| 3|3|ok|', 'MailingCore: the contacts are equal');
is(verified('verifycampaignlark', 'fields'),
	'first_name, plan|email_address, first_name, last_name, plan, points, active, born|ok|', 'CampaignLark: fields');
is(join(' ', sort split(/\n/, verified('verifycampaignlark', 'contact'))),
	join(' ', map { "c$_\@example.com|c$_\@example.com|ok|" } 1 .. 3), 'and contacts');
is(verified('verifyowlat', 'health'), '|ok|ok|', 'Owlat: health');
is(verified('verifyowlat', 'contacts'), '3|3|ok|', 'Owlat: total');
is(join(' ', sort split(/\n/, verified('verifyowlat', 'contact'))),
	join(' ', map { "c$_\@example.com|c$_\@example.com|ok|" } 1 .. 3), 'and contacts');
is(verified('verifyspotzee', 'project'), '|verifyspotzee|ok|', 'Spotzee: project');
is(verified('verifyspotzee', 'contacts'), '3|3|ok|', 'Spotzee: X-Total-Count');
is(join(' ', sort split(/\n/, verified('verifyspotzee', 'contact'))), '1|1|ok| 2|2|ok| 3|3|ok|', 'Spotzee: the contacts are equal');
like(verified('verifycaramel', 'usage'), qr/^\|\{"business_id":"bus_01h7m9k0aabcdefghj1234567","contacts":3\}\|ok\|$/, 'Caramel: usage');
like(verified('verifycaramel', 'contacts'), qr/^3\|\|not available\|Caramel does not let contacts be read/, 'Caramel: contacts cannot be read');
is(scalar @{ [ verify('verifycaramel') =~ /^contact\|/mg ] }, 0, 'Caramel: no contacts are looked up');

# the other option value
shop(q{ALTER SERVER verifycaramel OPTIONS (ADD usage 'mcp')});
$sandbox->config('caramel', { account => 'verifycaramel', gateway => \0 });
like(verified('verifycaramel', 'usage'), qr/"contacts":\s*3.*\|ok\|$/, 'Caramel: the tool returns the same usage');
shop(q{ALTER SERVER verifycaramel OPTIONS (SET usage 'gateway')});
is(verified('verifycaramel', 'usage'), '||not available|HTTP 404: Not found', 'Caramel: a wrong gateway gives no answer');
$sandbox->fault('caramel', { match => { account => 'verifycaramel' }, action => { status => 401 } });
like(verified('verifycaramel', 'usage'), qr/^\|\|not available\|HTTP 401: the access token is invalid, and no worker renewed it/, 'Caramel: nor does an old token');

# changes at the provider
$sandbox->call('POST', 'mailingcore/contacts', { account => 'verifymailingcore', contacts => [ { externalId => '2', email => 'c2@example.com', optIn => \0, locale => 'ca', attributes => { firstName => 'Other', plan => 'gold' } }, { email => 'new@example.com' } ] });
$sandbox->call('DELETE', 'mailingcore/contacts', undef, account => 'verifymailingcore', email => 'c3@example.com');
$sandbox->call('POST', 'mailingcore/contacts', { account => 'verifymailingcore', contacts => [ { email => 'more@example.com' } ] });
is(verified('verifymailingcore', 'contacts'), '3|4|differs|the account has contacts that did not come from here', 'MailingCore: more contacts at the provider');
is(join("\n", sort split(/\n/, verified('verifymailingcore', 'contact'))),
	join("\n", '1|1|ok|',
		'2|2|differs|first_name is Name 2! here and Other there; locale is en here and ca there; opt_in is true here and false there',
		'3||differs|HTTP 404: Contact not found'),
	'a contact that was changed, and one that has gone');
like(verified('verifymailingcore', 'locale coverage'), qr/^\|\[.*\]\|ok\|$/, 'MailingCore: no template needed for contacts who opted out');
$sandbox->call('POST', 'mailingcore/contacts', { account => 'verifymailingcore', contacts => [ { email => 'c2@example.com', optIn => \1 } ] });
like(verified('verifymailingcore', 'locale coverage'), qr/\|differs\|contacts without a template in their language: 1 with ca$/, 'MailingCore: a template needed for other contacts');
$sandbox->call('POST', 'campaignlark/contacts', { account => 'verifycampaignlark', contacts => [ { email_address => 'c1@example.com', status => 'UNSUBSCRIBED', tags => [2] } ] });
like(verified('verifycampaignlark', 'contact'), qr/^c1\@example\.com\|c1\@example\.com\|differs\|status is SUBSCRIBED here and UNSUBSCRIBED there; tags is \[1\] here and \[2\] there$/m,
	'CampaignLark: an opt-out and other tags');

# changes here that have not been sent
$node->safe_psql('postgres', q{UPDATE customers SET first_name = 'Queued' WHERE id = 1; DELETE FROM customers WHERE id = 3});
my $contacts = verified('verifyspotzee', 'contact');
like($contacts, qr/^1\|\|not available\|a change is queued$/m, 'queued contacts are not compared');
shop(q{CALL contactsync_run('verifyspotzee')});
$contacts = verified('verifyspotzee', 'contact');
like($contacts, qr/^1\|1\|ok\|$/m, 'contacts are compared after they are sent');
like($contacts, qr/^3\|\|not available\|its row is gone/m, 'contacts without a row are not compared');
is(verified('verifyspotzee', 'contact', 0), '', 'nothing is looked up with 0 samples');
is(scalar split(/\n/, verified('verifyspotzee', 'contact', 2)), 2, 'as many contacts are looked up as requested');

# undocumented answers
$sandbox->fault('owlat', { match => { account => 'verifyowlat', path => '*/health' }, action => { status => 200, body => 'fine' } });
$sandbox->fault('owlat', { match => { account => 'verifyowlat', path => '*/contacts' }, action => { status => 200, body => '{"data": []}' } });
is(verified('verifyowlat', 'health') . "\n" . verified('verifyowlat', 'contacts', 0),
	"||not available|the answer is not in the documented format\n3|3|ok|", 'an answer that cannot be read is not available');
$sandbox->clear_faults('owlat');
$sandbox->fault('spotzee', { match => { account => 'verifyspotzee' }, times => 2, action => { status => 429, retry_after => '0' } });
is(verified('verifyspotzee', 'project', 0), '|verifyspotzee|ok|', 'a 429 is waited for');
$sandbox->fault('spotzee', { match => { account => 'verifyspotzee' }, action => { status => 429, retry_after => '3600' } });
like(verified('verifyspotzee', 'project', 0), qr/^\|\|not available\|HTTP 429/, 'a 429 with a long wait is not waited for');
$sandbox->fault('spotzee', { match => { account => 'verifyspotzee' }, action => { stall => \1 } });
my ($out, $err) = shop_messages(q{SET statement_timeout = '500ms'; SELECT * FROM contactsync_verify('verifyspotzee')});
like($err, qr/canceling statement due to statement timeout/, 'the function can be cancelled while it waits');
$sandbox->clear_faults('spotzee');

# no lock is held on a source while waiting for a provider
$sandbox->fault('spotzee', { match => { account => 'verifyspotzee' }, action => { stall => \1 } });
my $waiting = $node->background_psql('postgres');
$waiting->query_until(qr/asked/, qq{SET SESSION AUTHORIZATION shop;\n\\echo asked\nSELECT * FROM contactsync_verify('verifyspotzee');\n});
$sandbox->wait_for_journal('spotzee', sub { $_[-1]{in_flight} }, account => 'verifyspotzee');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE relation = 'customers'::regclass}), '0', 'the source is not locked');
$sandbox->clear_faults('spotzee');
$waiting->quit;

# fields of a mapping of a new watch
my $watch = q{SELECT contactsync_watch('customers', 'verifycampaignlark', '{"email": "email", "opt_in": "opt_in", "locale": "locale", "attributes": {"plan": "plan", "shoe_size": "id"}}') > 0};
shop(q{SELECT contactsync_unwatch('customers', 'verifycampaignlark')});
($out, $err) = shop_messages($watch);
like($err, qr/ERROR:  CampaignLark has no field with the merge tag "locale", "shoe_size"\nDETAIL:  It has: email_address, .*\nHINT:  Create the field at CampaignLark/, 'unknown fields are named');
is($node->safe_psql('postgres', q{SELECT count(*) FROM contactsync.watches WHERE server = 'verifycampaignlark'}), '0', 'no watch is created');
$sandbox->fault('campaignlark', { match => { account => 'verifycampaignlark' }, action => { status => 503 } });
($out, $err) = shop_messages("BEGIN; $watch; ROLLBACK");
is($out, 't', 'a watch is created if CampaignLark does not answer');
like($err, qr/WARNING:  could not check whether CampaignLark has the fields of the mapping\nDETAIL:  The check failed with: HTTP 503/, 'a warning is raised');

# a suggested mapping leaves out what CampaignLark has no field for
$node->safe_psql('postgres', q{CREATE TABLE users (id int PRIMARY KEY, mail text, first_name text, locale text, opt_in boolean); ALTER TABLE users OWNER TO shop});
is(shop(q{BEGIN; SELECT contactsync_suggest_mapping('users', 'verifycampaignlark')}), '{"email": "mail", "opt_in": "opt_in", "first_name": "first_name"}',
	'a suggested mapping has only fields that are there');
is(shop(q{BEGIN; SELECT expression, reason FROM contactsync_suggest('users', 'verifycampaignlark') WHERE field IS NULL}),
	"id|it could be external_id, but CampaignLark has no field with the merge tag \"external_id\"\nlocale|it could be locale, but CampaignLark has no field with the merge tag \"locale\"",
	'and the reason names those that are not');
like(shop(q{BEGIN; SELECT contactsync_watch('users', 'verifycampaignlark', mapping => contactsync_suggest_mapping('users', 'verifycampaignlark'))}),
	qr/^\d+$/, 'so it can be watched');
my $requests = $sandbox->count('campaignlark', account => 'verifycampaignlark')->{requests};
shop(q{ALTER SERVER verifycampaignlark OPTIONS (ADD check_fields 'false')});
is(shop($watch), 't', 'check_fields can be turned off');
is($sandbox->count('campaignlark', account => 'verifycampaignlark')->{requests}, $requests, 'no request is made then');
like(verified('verifycampaignlark', 'fields'), qr/\|differs\|CampaignLark has no field with the merge tag "locale", "shoe_size"$/, 'contactsync_verify() still checks the fields');

# privileges and arguments
(undef, $out, $err) = $node->psql('postgres', q{CREATE ROLE other; SET ROLE other; SELECT * FROM contactsync_verify('verifyowlat')});
like($err, qr/permission denied for foreign server verifyowlat/, 'USAGE on the server is required');
(undef, $out, $err) = $node->psql('postgres', q{GRANT USAGE ON FOREIGN SERVER verifyowlat TO other;
	CREATE USER MAPPING FOR other SERVER verifyowlat OPTIONS (api_key 'lm_live_verifyowlat0000000000000000000000000');
	SET ROLE other; SELECT ours FROM contactsync_verify('verifyowlat') WHERE check_name = 'contacts'});
is($out, '0', 'only the contacts that the role sent are counted');
($out, $err) = shop_messages(q{SELECT * FROM contactsync_verify('verifyowlat', -1)});
like($err, qr/"samples" must be between 0 and 1000/, 'the number of samples is limited');

$node->stop;
done_testing();
