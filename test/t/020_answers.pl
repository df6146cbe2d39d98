# What the provider says of single contacts: those that it refuses become failures with its reason, all others arrive.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.clock_speed' => 20);

# A server with an account of its own, and a table of n rows that is to be mirrored to it.
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

# 200, and the answer names who failed
prepare('named', 'mailingcore', 20, mapping => $bulk,
	reject => { 'c3@example.com' => { code => 'suppressed', message => 'the address bounced' }, 7 => { code => 'service_unavailable', message => 'try later' } });
is(failures('named'), "3|3|rejected|suppressed|the address bounced\n7|7|unavailable|service_unavailable|try later", 'who is named fails, with the reason');
is(arrived('named', 'mailingcore'), 18, 'the others arrive');
is( $node->safe_psql('postgres', q{SELECT verdict, contacts, failed FROM contactsync.calls WHERE server = 'named' ORDER BY id LIMIT 1}),
	'done|20|1', 'the call is a success with a failure, and one that may be tried again');
is($node->safe_psql('postgres', q{SELECT attempts FROM contactsync.failures WHERE server = 'named' AND key = '7'}),
	6, 'which it is, as often as the option says');
is($node->safe_psql('postgres', q{SELECT synced, failed, failures, last_error FROM contactsync.status WHERE server = 'named'}),
	'18|2|2|try later', 'status counts');

# 200, and the answer only counts them: one by one, or by halves where that takes fewer calls
my $silent = { failed_details => \0 };
prepare('few', 'mailingcore', 6, mapping => $bulk, config => $silent, reject => { 'c3@example.com' => { message => 'bounced' } });
is(failures('few'), '3|3|rejected|bounced', 'who is not named is found');
is(arrived('few', 'mailingcore'), 5, 'the others arrive');
is(methods('few', 'mailingcore'), 'POST /contacts/bulk' . ' PUT /contacts' x 6, 'one by one in a small batch');

prepare('many', 'mailingcore', 200, mapping => $bulk, config => $silent, reject => { 'c77@example.com' => { message => 'bounced' } });
is(failures('many'), '77|77|rejected|bounced', 'who is not named is found');
is(arrived('many', 'mailingcore'), 199, 'the others arrive');
cmp_ok($sandbox->count('mailingcore', account => 'many')->{requests}, '<', 50, 'by halves in a large batch');

# 400 for all of them, on account of one
prepare('whole', 'mailingcore', 50, mapping => $bulk, server => { unsupported_locale => 'send' },
	sql => q{UPDATE whole SET locale = 'xx' WHERE id IN (20, 21)});
my @refused = split(/\n/, failures('whole'));
is(scalar @refused, 2, 'a batch that is refused is taken apart');
like($refused[0], qr/^20\|20\|rejected\|.*must be one of the following values/, 'until who is to blame is alone');
like($refused[1], qr/^21\|21\|rejected\|/, 'whoever it is');
is(arrived('whole', 'mailingcore'), 48, 'the others arrive');

# a conflict
prepare('conflict', 'mailingcore', 0, mapping => $bulk);
$sandbox->call('POST', 'mailingcore/contacts',
	{ account => 'conflict', contacts => [ { email => 'c2@example.com', externalId => 'other' } ] });
$node->safe_psql('postgres', q{INSERT INTO conflict SELECT g, format('c%s@example.com', g), 'en' FROM generate_series(1, 3) g});
like(failures('conflict'), qr/^2\|2\|conflict\|.*another externalId$/, 'a conflict is called one');

# one contact a call
my $single = '{"email": "email", "tags": "tags", "attributes": {"plan": "plan"}}';
prepare('tags', 'campaignlark', 3, mapping => $single, server => { new_contacts => 'unsubscribed' },
	sql => q{UPDATE tags SET tags = '{99}' WHERE id = 2});
is(failures('tags'), '2|c2@example.com|invalid_field|tags|Tag ID 99 does not exist in this workspace', 'a refused contact fails alone');
is_deeply([ map { $_->{status} } @{ $sandbox->contacts('campaignlark', account => 'tags') } ],
	[ 'UNSUBSCRIBED', 'UNSUBSCRIBED' ], 'the others arrive');
is((scalar grep { /by-email/ } split(/ /, methods('tags', 'campaignlark'))), 3, 'after they were looked up');

# tried again on demand, or with the next change
$sandbox->clear_faults('mailingcore', account => 'named');
is($node->safe_psql('postgres', q{SELECT contactsync_retry('named')}), 2, 'failures can be tried again');
is(failures('named'), '', 'and are over when the provider takes them');
is(arrived('named', 'mailingcore'), 20, 'who then arrive');
$node->safe_psql('postgres', q{UPDATE tags SET tags = '{2}' WHERE id = 2});
is(failures('tags'), '', 'a corrected row is no failure any more');
is(arrived('tags', 'campaignlark'), 3, 'and arrives');

$node->stop;
done_testing();
