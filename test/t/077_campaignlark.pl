# CampaignLark from end to end: one contact per call, merge tags, partial updates, and nobody is subscribed by accident.

use strict;
use warnings;

use ContactSync;
use JSON::PP;
use Test::More;

my $speed = 20;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('contactsync.clock_speed' => $speed);

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub settle { sql("$_[0]; CALL contactsync_wait('lark')"); return; }
sub contact { my ($email) = @_; my ($contact) = grep { $_->{email_address} eq $email } @{ $sandbox->contacts('campaignlark', account => 'lark') }; return $contact; }

# Return the requests since the last call of this function.
my $seen = 0;

sub requests
{
	my @journal = grep { $_->{seq} > $seen } @{ $sandbox->journal('campaignlark', account => 'lark') };

	$seen = $journal[-1]{seq} if @journal;
	return @journal;
}

sub lines { return join(' ', map { "$_->{method} $_->{path} $_->{status}" =~ s{ /(campaignlark/)?v1}{ }r =~ s{%40}{@}r } @_); }
sub header { my ($request, $name) = @_; return join(',', map { $_->[1] } grep { lc $_->[0] eq $name } @{ $request->{headers} }); }
sub body { my ($request) = @_; return ref $request->{body} ? $request->{body} : decode_json($request->{body}); }
sub events { return join(' ', map { $_->{kind} // $_->{event} // $_->{type} // '?' } @{ $sandbox->events('campaignlark', account => 'lark') }); }

# merge tags are checked when the watch is created
create_server($node, $sandbox, 'campaignlark', account => 'lark', server => { pace => 500, burst => 50, check_fields => undef });
sql(q{CREATE TABLE people (id int PRIMARY KEY, email text, first_name text, last_name text, wants boolean, tags int[], points numeric, active boolean,
	born timestamptz, colour text, note text)});
my (undef, undef, $refused) = $node->psql('postgres', q{SELECT contactsync_watch('people', 'lark', '{"email": "email", "opt_in": "wants", "attributes": {"colour": "colour"}}')});
like($refused, qr/no field with the merge tag "colour".*It has: email_address, first_name/s, 'an unknown merge tag is named when the watch is created');
like(lines(requests()), qr{^GET \S*/fields 200$}, 'CampaignLark is asked for its fields');
sql(q{SELECT contactsync_watch('people', 'lark', '{"email": "email", "first_name": "first_name", "last_name": "last_name", "opt_in": "wants", "tags": "tags",
	"attributes": {"points": "points", "active": "active", "born": "born"}}', on_delete => 'unsubscribe', delete_delay => '0', claims => 'all')});
requests();

# the example of the page
settle(q{INSERT INTO people VALUES (1, ' Tywin@example.com', 'Tywin', 'Lannister', true, '{1,2}', 1.5, true, '1990-01-31 00:00:00+00')});
my @requests = requests();
is(lines(@requests), 'POST /contacts/upsert 200', 'one call');
like(header($requests[0], 'authorization'), qr/./, 'it has the key, which the page omits');
is(header($requests[0], 'content-type'), 'application/json', 'it has the content type');
my $body = body($requests[0]);
like(delete $body->{fields}{born}, qr/^1990-01-31T00:00:00/, 'a date is in RFC 3339 format');
is_deeply(
	$body,
	{   email_address => 'tywin@example.com',
		fields => { first_name => 'Tywin', last_name => 'Lannister', points => 1.5, active => JSON::PP::true },
		tags => [ 1, 2 ],
		status => 'SUBSCRIBED',
		partial_update => JSON::PP::true
	},
	'as on the page: the address outside the fields, tags as numbers, always partial');
is(sql(q{SELECT remote_id = '} . contact('tywin@example.com')->{id} . q{' FROM contactsync.contacts}), 't', 'its id is stored');
is(sql(q{SELECT remote_status, remote_updated_at FROM contactsync.contacts}), 'SUBSCRIBED|' . contact('tywin@example.com')->{updated_at}, 'its status and the time of its change are stored');

# fields that are not mapped are not changed, and unchanged contacts are not sent
$sandbox->call('POST', 'campaignlark/contacts', { account => 'lark', contacts => [ { email_address => 'tywin@example.com', fields => { first_name => 'Tywin', last_name => 'Lannister', plan => 'gold', points => 1.5, active => JSON::PP::true } } ] });
my $events = events();
settle(q{UPDATE people SET note = 'x'; BEGIN; UPDATE people SET points = 2; UPDATE people SET points = 1.5; COMMIT});
is(lines(requests()), '', 'an unchanged contact causes no call');
is(events(), $events, 'it starts no automation');
settle(q{UPDATE people SET first_name = 'T'});
is(contact('tywin@example.com')->{fields}{plan}, 'gold', 'a field that is not mapped is kept');
ok(!exists(body((requests())[0])->{status}), 'consent is not claimed again');

# an empty list differs from null
settle(q{UPDATE people SET tags = '{}'});
is_deeply(body((requests())[0])->{tags}, [], 'an empty list of tags is sent');
settle(q{UPDATE people SET tags = NULL});
ok(!exists(body((requests())[0])->{tags}), 'a null list of tags is omitted');

# a value that was sent and became null
$sandbox->config('campaignlark', { account => 'lark', nulls => 'clear' });
settle(q{UPDATE people SET last_name = NULL});
is(contact('tywin@example.com')->{fields}{last_name}, 'Lannister', 'nulls are omitted by default');
settle(q{ALTER SERVER lark OPTIONS (ADD nulls 'clear')});
requests();
settle(q{BEGIN; UPDATE people SET last_name = 'x'; UPDATE people SET last_name = NULL; COMMIT});
ok(exists(body((requests())[0])->{fields}{last_name}), 'nulls are sent with nulls=clear, although the row has not changed');
ok(!defined contact('tywin@example.com')->{fields}{last_name}, 'the value is cleared');
settle(q{ALTER SERVER lark OPTIONS (DROP nulls)});
$sandbox->config('campaignlark', { account => 'lark', nulls => 'refuse' });

# consent
settle(q{UPDATE people SET wants = false});
is(contact('tywin@example.com')->{status}, 'UNSUBSCRIBED', 'an opt-out arrives');
settle(q{INSERT INTO people (id, email) VALUES (2, 'unknown@example.com')});
is(contact('unknown@example.com'), undef, 'a new contact without a consent would be subscribed, so it is not sent');
is(sql(q{SELECT key, reason, field FROM contactsync.failures}), '2|missing_field|opt_in', 'it is a failure instead');
settle(q{ALTER SERVER lark OPTIONS (ADD new_contacts 'unsubscribed'); SELECT contactsync_retry('lark')});
is(contact('unknown@example.com')->{status}, 'UNSUBSCRIBED', 'with new_contacts it gets the status of the option');
settle(q{ALTER SERVER lark OPTIONS (DROP new_contacts); DELETE FROM people WHERE id = 2});
requests();

# another address is another contact; the treatment of the previous one is an option
settle(q{UPDATE people SET wants = true});
settle(q{UPDATE people SET email = 'tyrion@example.com' WHERE id = 1});
is(contact('tyrion@example.com')->{status} . contact('tywin@example.com')->{status}, 'SUBSCRIBEDUNSUBSCRIBED', 'a new address is a new contact, and on_delete decides on the old one');
settle(q{ALTER SERVER lark OPTIONS (ADD on_email_change 'unsubscribe'); UPDATE people SET email = 'cersei@example.com' WHERE id = 1});
is(contact('cersei@example.com')->{status} . contact('tyrion@example.com')->{status}, 'SUBSCRIBEDUNSUBSCRIBED', 'with on_email_change the previous contact is unsubscribed');
is(sql(q{SELECT upsert_key, key, action FROM contactsync.contacts WHERE upsert_key IN ('cersei@example.com', 'tyrion@example.com') ORDER BY 1}), "cersei\@example.com|1|upsert\ntyrion\@example.com|1|unsubscribe", 'the change is noted');
requests();

# refusals, recognized by their message
sub fails
{
	my ($message, $expected, $what) = @_;

	$sandbox->fault('campaignlark', { match => { account => 'lark' }, action => { status => 400, body => encode_json({ error => { message => $message } }) } });
	settle(q{UPDATE people SET points = points + 1 WHERE id = 1});
	is(sql(q{SELECT reason, field FROM contactsync.failures}), $expected, $what);
	settle(q{SELECT contactsync_retry('lark')});
	return;
}

fails('Email address is required for upsert operation.', 'missing_field|email', 'the address is missing');
fails('The status you provided is not valid.', 'invalid_field|status', 'a status');
fails(q{Field 'Plan' is required.}, 'missing_field|Plan', 'a field that the workspace requires');
fails('Tag ID 9 does not exist in this workspace', 'invalid_field|tags', 'a tag');
is(sql('SELECT count(*) FROM contactsync.failures'), '0', 'all contacts arrive when CampaignLark accepts them');
requests();

# an import at CampaignLark is waited for
$sandbox->config('campaignlark', { account => 'lark', importing => JSON::PP::true });
sql(q{UPDATE people SET points = 50 WHERE id = 1});
$sandbox->wait_for_journal('campaignlark', sub { grep { $_->{seq} > $seen } @_ }, account => 'lark');
$sandbox->config('campaignlark', { account => 'lark', importing => JSON::PP::false });
settle('SELECT 1');
@requests = requests();
is(contact('cersei@example.com')->{fields}{points}, 50, 'the contact arrives after the import');
cmp_ok($requests[1]{clock} - $requests[0]{clock}, '>=', 29, 'the wait is half a minute');
is(sql('SELECT max(attempt), (SELECT count(*) FROM contactsync.failures) FROM contactsync.calls'), '1|0', 'the wait does not count as a retry');

# a merge tag that is deleted there: the watch waits and names it, or continues without it, depending on an option
$sandbox->fault('campaignlark', { match => { account => 'lark' }, times => undef, action => { status => 400, body => '{"error": {"message": "We were unable to find a field with the merge_tag points"}}' } });
sql(q{UPDATE people SET points = 60 WHERE id = 1});
$node->poll_query_until('postgres', q{SELECT reason ~ 'merge tag "points"' FROM contactsync.status})
  or die 'timed out waiting for the reason';
is(sql(q{SELECT backlog, failures FROM contactsync.status}), '1|0', 'an unknown field breaks the watch, with the reason');
$sandbox->clear_faults('campaignlark', account => 'lark');
$sandbox->fault('campaignlark', { match => { account => 'lark' }, action => { status => 400, body => '{"error": {"message": "We were unable to find a field with the merge_tag points"}}' } });
requests();
settle(q{ALTER SERVER lark OPTIONS (ADD drop_unknown_fields 'true')});
@requests = requests();
ok(!exists body($requests[-1])->{fields}{points}, 'with drop_unknown_fields the field is omitted, once');
like(sql(q{SELECT error FROM contactsync.contacts WHERE key = '1'}), qr/points/, 'the omission is noted');

# ... also if the watch is altered while the call is in flight, to a mapping that does not have it any more
$sandbox->fault('campaignlark', { match => { account => 'lark' }, action => { status => 400, latency => 2,
	body => '{"error": {"message": "We were unable to find a field with the merge_tag points"}}' } });
sql(q{UPDATE people SET points = 61 WHERE id = 1});
$sandbox->wait_for_journal('campaignlark', sub { grep { $_->{seq} > $seen } @_ }, account => 'lark');
my $altered = q{SELECT contactsync_alter_watch('people', 'lark', mapping => '{"email": "email", "first_name": "first_name", "last_name": "last_name", "opt_in": "wants",
	"tags": "tags", "attributes": {%s}}')};
sql(sprintf($altered, $_)) foreach '"active": "active", "born": "born"', '"active": "active"', '"active": "active", "points": "points", "born": "born"';
settle('SELECT 1');
@requests = grep { $_->{method} eq 'POST' } requests();
is(join(' ', map { join(',', sort keys %{ body($_)->{fields} }) } @requests), 'active,born,first_name,points active,born,first_name',
	'the attributes of a call in flight keep their names when the watch is altered');

# refused access halts the server
sub halts
{
	my ($status, $message, $reason) = @_;

	$sandbox->fault('campaignlark', { match => { account => 'lark' }, times => undef, action => { status => $status, body => encode_json({ error => { message => $message } }) } });
	sql(q{UPDATE people SET points = points + 1 WHERE id = 1});
	$node->poll_query_until('postgres', "SELECT state = 'halted' AND reason LIKE '$reason%' FROM contactsync.status")
	  or die "timed out waiting for $reason";
	is(sql(q{SELECT backlog, failures FROM contactsync.status}), '1|0', "$status, $reason: the server halts, and the change stays queued");
	$sandbox->clear_faults('campaignlark', account => 'lark');
	settle(q{ALTER SERVER lark OPTIONS (SET burst '49')});
	settle(q{ALTER SERVER lark OPTIONS (SET burst '50')});
	return;
}

halts(401, 'The API key you provided is invalid or has been revoked.', 'unauthorized');
halts(403, 'Your IP address is not authorized to use this API key.', 'address_not_allowed');

# 5xx, and 429 without a header: repeated, with increasing pauses
requests();
$sandbox->fault('campaignlark', { match => { account => 'lark' }, times => 2, action => { status => 500 } });
$sandbox->fault('campaignlark', { match => { account => 'lark' }, times => 2, action => { status => 429 } });
settle(q{UPDATE people SET last_name = 'Last' WHERE id = 1});
@requests = requests();
is(scalar @requests, 5, 'a failed call is repeated');
is((scalar grep { $requests[$_]{clock} - $requests[ $_ - 1 ]{clock} < 0.4 } 1 .. $#requests), 0, 'a pause precedes each call');
is(contact('cersei@example.com')->{fields}{last_name}, 'Last', 'the contact arrives');

$sandbox->fault('campaignlark', { match => { account => 'lark' }, effect => 'after', action => { reset => 'before' } });
settle(q{UPDATE people SET last_name = 'Lost' WHERE id = 1});
is(contact('cersei@example.com')->{fields}{last_name}, 'Lost', 'the contact arrives if an answer is lost');
@requests = requests();
is(body($requests[0])->{fields}{last_name} . body($requests[-1])->{fields}{last_name} . (@requests > 1), 'LostLost1', 'the call is repeated, which is safe');

# a deleted row: CampaignLark cannot delete, so the status changes
settle('DELETE FROM people WHERE id = 1');
is(contact('cersei@example.com')->{status}, 'UNSUBSCRIBED', 'a deleted row is unsubscribed');
(undef, undef, $refused) = $node->psql('postgres', q{CREATE TABLE other (id int PRIMARY KEY, email text, wants bool);
	SELECT contactsync_watch('other', 'lark', '{"email": "email", "opt_in": "wants"}', on_delete => 'delete')});
like($refused, qr/CampaignLark/, 'on_delete => delete is rejected when the watch is created');

# two rows with the same address are one contact; both are listed, including the one that was superseded and never sent
sql(q{CREATE TABLE twins (id int PRIMARY KEY, email text, first_name text, wants bool);
	SELECT contactsync_watch('twins', 'lark', '{"email": "email", "opt_in": "wants", "first_name": "first_name"}')});
settle(q{BEGIN; INSERT INTO twins SELECT g, CASE g % 2 WHEN 0 THEN 'twin@example.com' ELSE 'TWIN@example.com ' END, 'T' || g, true FROM generate_series(1, 9) g; COMMIT});
is(sql(q{SELECT upsert_key, rows, keys FROM contactsync.duplicates}), 'twin@example.com|9|{"twins": ["1", "2", "3", "4", "5", "6", "7", "8", "9"]}', 'rows that are one contact are all listed');

$node->stop;
done_testing();
