# Answers about single contacts: refused contacts become failures with the provider's reason, all others are synced.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.clock_speed' => 20);

# Create a server with its own account, and a watched table of n rows.
sub prepare
{
	my ($name, $provider, $n, %param) = @_;

	create_server($node, $sandbox, $provider, account => $name, server => { pace => 1000, burst => 1000, %{ $param{server} // {} } });
	$sandbox->config($provider, { account => $name, %{ $param{config} } }) if $param{config};
	$sandbox->fault($provider, { match => { account => $name }, times => undef, action => { reject_items => $param{reject} } })
	  if $param{reject};
	$node->safe_psql(
		'postgres', qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, locale text, tags int[], plan text);
		SELECT contactsync_watch('$name', '$name', '$param{mapping}');
		BEGIN;
		INSERT INTO $name SELECT g, format('c%s\@example.com', g), 'en', '{1}' FROM generate_series(1, $n) g;
		@{[$param{sql} // '']};
		COMMIT;
	});
	return;
}

sub failures
{
	my ($name) = @_;

	$node->safe_psql('postgres', "CALL contactsync_wait('$name')");
	return $node->safe_psql('postgres',
		qq{SELECT concat_ws('|', key, upsert_key, reason, code, field, message) FROM contactsync.failures WHERE server = '$name' ORDER BY key::int});
}

sub arrived { my ($name, $provider) = @_; return $sandbox->count($provider, account => $name)->{contacts}; }

sub methods
{
	my ($name, $provider) = @_;

	return join(' ', map { "$_->{method} $_->{path}" } @{ $sandbox->journal($provider, account => $name) });
}

my $bulk = '{"email": "email", "external_id": "id", "locale": "locale"}';

# 200, and the answer names the failed contacts
prepare('named', 'mailingcore', 20, mapping => $bulk,
	reject => { 'c3@example.com' => { code => 'suppressed', message => 'the address bounced' }, 7 => { code => 'service_unavailable', message => 'try later' } });
is(failures('named'), "3|3|rejected|suppressed|the address bounced\n7|7|unavailable|service_unavailable|try later", 'a named contact fails with the reason');
is(arrived('named', 'mailingcore'), 18, 'all other contacts arrive');
is( $node->safe_psql('postgres', q{SELECT verdict, contacts, failed FROM contactsync.calls WHERE server = 'named' ORDER BY id LIMIT 1}),
	'done|20|1', 'the call log counts the failed contact and its retries');
is($node->safe_psql('postgres', q{SELECT attempts FROM contactsync.failures WHERE server = 'named' AND key = '7'}),
	6, 'a transient error is retried as often as the option allows');
is($node->safe_psql('postgres', q{SELECT synced, failed, failures, last_error FROM contactsync.status WHERE server = 'named'}),
	'18|2|2|try later', 'status counts the outcomes');

# 200, and the answer only counts failures: retry the contacts one by one, or bisect if that takes fewer calls
my $silent = { failed_details => \0 };
prepare('few', 'mailingcore', 6, mapping => $bulk, config => $silent, reject => { 'c3@example.com' => { message => 'bounced' } });
is(failures('few'), '3|3|rejected|bounced', 'a failed contact that is not named is identified');
is(arrived('few', 'mailingcore'), 5, 'all other contacts arrive');
is(methods('few', 'mailingcore'), 'POST /contacts/bulk' . ' PUT /contacts' x 6, 'a small batch is retried one by one');

prepare('many', 'mailingcore', 200, mapping => $bulk, config => $silent, reject => { 'c77@example.com' => { message => 'bounced' } });
is(failures('many'), '77|77|rejected|bounced', 'a failed contact that is not named is identified in a large batch');
is(arrived('many', 'mailingcore'), 199, 'all other contacts arrive');
cmp_ok($sandbox->count('mailingcore', account => 'many')->{requests}, '<', 50, 'a large batch is bisected');

# 400 for the whole batch because of one contact
prepare('whole', 'mailingcore', 50, mapping => $bulk, server => { unsupported_locale => 'send' },
	sql => q{UPDATE whole SET locale = 'xx' WHERE id IN (20, 21)});
my @refused = split(/\n/, failures('whole'));
is(scalar @refused, 2, 'a refused batch is bisected');
like($refused[0], qr/^20\|20\|rejected\|.*must be one of the following values/, 'the contact at fault is isolated');
like($refused[1], qr/^21\|21\|rejected\|/, 'every contact at fault is isolated');
is(arrived('whole', 'mailingcore'), 48, 'all other contacts arrive');

# a conflict
prepare('conflict', 'mailingcore', 0, mapping => $bulk);
$sandbox->call('POST', 'mailingcore/contacts',
	{ account => 'conflict', contacts => [ { email => 'c2@example.com', externalId => 'other' } ] });
$node->safe_psql('postgres', q{INSERT INTO conflict SELECT g, format('c%s@example.com', g), 'en' FROM generate_series(1, 3) g});
like(failures('conflict'), qr/^2\|2\|conflict\|.*another externalId$/, 'a conflict is reported as a conflict');

# one contact per call
my $single = '{"email": "email", "tags": "tags", "attributes": {"plan": "plan"}}';
prepare('tags', 'campaignlark', 3, mapping => $single, server => { new_contacts => 'unsubscribed' },
	sql => q{UPDATE tags SET tags = '{99}' WHERE id = 2});
is(failures('tags'), '2|c2@example.com|invalid_field|tags|Tag ID 99 does not exist in this workspace', 'only the refused contact fails');
is_deeply([ map { $_->{status} } @{ $sandbox->contacts('campaignlark', account => 'tags') } ],
	[ 'UNSUBSCRIBED', 'UNSUBSCRIBED' ], 'all other contacts arrive');
is((scalar grep { /by-email/ } split(/ /, methods('tags', 'campaignlark'))), 3, 'contacts are looked up before they are created');

# failures are retried on request, or by the next change
$sandbox->clear_faults('mailingcore', account => 'named');
is($node->safe_psql('postgres', q{SELECT contactsync_retry('named')}), 2, 'contactsync_retry() counts the failures');
is(failures('named'), '', 'failures disappear when the provider accepts the contacts');
is(arrived('named', 'mailingcore'), 20, 'the retried contacts arrive');
$node->safe_psql('postgres', q{UPDATE tags SET tags = '{2}' WHERE id = 2});
is(failures('tags'), '', 'the failure of a corrected row disappears');
is(arrived('tags', 'campaignlark'), 3, 'the corrected row arrives');

$node->stop;
done_testing();
