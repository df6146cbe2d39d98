# MailingCore from end to end: both headers, batches of a thousand, keys, locales, consent, failures, limits.

use strict;
use warnings;

use ContactSync;
use JSON::PP;
use Test::More;

my $speed = 20;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('contactsync.clock_speed' => $speed);

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub settle { sql("$_[0]; CALL contactsync_wait('mc')"); return; }
sub contacts { return @{ $sandbox->contacts('mailingcore', account => 'mc') }; }
sub contact { my ($id) = @_; my ($contact) = grep { ($_->{externalId} // '') eq $id } contacts(); return $contact; }

# Return the requests since the last call of this function, and their contents.
my $seen = 0;

sub requests
{
	my @journal = grep { $_->{seq} > $seen } @{ $sandbox->journal('mailingcore', account => 'mc') };

	$seen = $journal[-1]{seq} if @journal;
	return @journal;
}

sub lines { return join(' ', map { "$_->{method} $_->{path} $_->{status}" =~ s{/mailingcore}{}r } @_); }
sub header { my ($request, $name) = @_; return join(',', map { $_->[1] } grep { lc $_->[0] eq $name } @{ $request->{headers} }); }
sub rows { return map { ref $_->{body} ? @{ $_->{body}{contacts} } : @{ decode_json($_->{body})->{contacts} } } @_; }

create_server($node, $sandbox, 'mailingcore', account => 'mc', server => { pace => 1000, burst => 1000 });
sql(q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, first_name text, locale text, newsletter boolean, plan text, note text);
	SELECT contactsync_watch('customers', 'mc', '{"email": "email", "external_id": "id", "first_name": "first_name", "locale": "locale",
		"opt_in": "newsletter", "attributes": {"plan": "plan"}}', on_delete => 'delete', delete_delay => '0', claims => 'all');
});

# the example of the page
settle(q{INSERT INTO customers VALUES (1, ' Alice@Example.com=20', 'Alice', 'en-GB', true), (2, 'bob@example.com', NULL, 'pt', NULL)});
my @requests = requests();
is(lines(@requests), 'POST /contacts/bulk 200', 'one call for two contacts');
like(header($requests[0], 'authorization'), qr/./, 'it has the key');
is(header($requests[0], 'x-tenant-id'), 'mc', 'it has the tenant');
is(header($requests[0], 'content-type'), 'application/json', 'it has the content type');
my %row = map { $_->{externalId} => $_ } rows(@requests);
is_deeply($row{1}, { email => 'alice@example.com', externalId => '1', locale => 'en', optIn => JSON::PP::true, attributes => { firstName => 'Alice' } },
	'a contact as on the page: normalized address, base of the locale');
is_deeply($row{2}, { email => 'bob@example.com', externalId => '2' }, 'an unsupported locale and an unknown consent are omitted');
is(sql(q{SELECT remote_id IS NULL, action FROM contactsync.contacts WHERE key = '1'}), 't|upsert', 'the outcome is stored');

is(sql(q{SELECT contacts, created, updated, failed FROM contactsync.calls}), '2|2|0|0', 'the counts of the summary are stored');

# only changes are sent
settle(q{UPDATE customers SET note = 'x', plan = NULL; UPDATE customers SET first_name = 'Alicia' WHERE id = 1});
@requests = requests();
is(join(' ', map { $_->{externalId} } rows(@requests)), '1', 'only the changed contact is sent');
ok(!exists((rows(@requests))[0]{optIn}), 'consent is not claimed again');

# never more than a thousand contacts, and never none
settle(q{INSERT INTO customers SELECT g, format('c%s@example.com', g), 'C', 'es', false, 'pro' FROM generate_series(101, 2600) g});
@requests = requests();
my @sizes = map { scalar rows($_) } @requests;
is((scalar grep { $_ < 1 || $_ > 1000 } @sizes), 0, "batches of 1 to 1000 (@sizes)");
is(eval { my $sum = 0; $sum += $_ foreach @sizes; $sum }, 2500, 'each contact is sent once');
cmp_ok(scalar @sizes, '<', 10, 'few calls are made');
is((scalar grep { my %ids; grep { $ids{ $_->{externalId} }++ } rows($_) } @requests), 0, 'no key occurs twice in a batch');

# two rows with the same address are never in the same batch; the second one is refused, and fails alone
settle(q{INSERT INTO customers VALUES (11, 'same@example.com'), (12, 'Same@example.com'), (13, 'other@example.com')});
@requests = requests();
is((scalar grep { my %emails; grep { $emails{ $_->{email} }++ } rows($_) } grep { $_->{path} =~ /bulk/ } @requests), 0, 'no address occurs twice in a batch');
is(sql(q{SELECT reason FROM contactsync.failures}), 'conflict', 'an address that belongs to another externalId is a conflict');
ok(contact(13), 'the other contacts arrive');
settle(q{DELETE FROM customers WHERE id IN (11, 12)});
requests();

# consent is withdrawn and given
settle('UPDATE customers SET newsletter = false WHERE id = 1');
is(JSON::PP::encode_json([ map { $_->{optIn} } rows(requests()) ]), '[false]', 'an opt-out is sent as a boolean');
settle('UPDATE customers SET newsletter = true WHERE id = 1');
is(JSON::PP::encode_json([ map { $_->{optIn} } rows(requests()) ]), '[true]', 'a new opt-in is sent as a boolean');

# a value that was sent and became null
$sandbox->config('mailingcore', { account => 'mc', nulls => 'clear' });
settle(q{UPDATE customers SET plan = 'gold' WHERE id = 1});
settle(q{UPDATE customers SET plan = NULL WHERE id = 1});
is(contact(1)->{attributes}{plan}, 'gold', 'nulls are omitted by default');
settle(q{ALTER SERVER mc OPTIONS (ADD nulls 'clear')});
requests();
settle(q{BEGIN; UPDATE customers SET plan = 'x' WHERE id = 1; UPDATE customers SET plan = NULL WHERE id = 1; COMMIT});
ok(exists((rows(requests()))[0]{attributes}{plan}), 'nulls are sent with nulls=clear, although the row has not changed');
is(contact(1)->{attributes}{plan}, undef, 'the value is cleared');
settle(q{ALTER SERVER mc OPTIONS (DROP nulls)});
$sandbox->config('mailingcore', { account => 'mc', nulls => 'refuse' });

# the batch is refused because of one contact: the others arrive
$sandbox->fault('mailingcore', { match => { account => 'mc', key => '101' }, times => undef, action => { status => 400, body => '{"statusCode": 400, "message": ["contacts.0.email must be an email"]}' } });
requests();
settle(q{UPDATE customers SET plan = 'max' WHERE id BETWEEN 101 AND 108});
is(sql(q{SELECT key, reason, field, message FROM contactsync.failures}), '101|invalid_email|email|contacts.0.email must be an email', 'a contact for which MailingCore refuses the batch fails alone');
is((scalar grep { ($_->{attributes}{plan} // '') eq 'max' } contacts()), 7, 'the other contacts arrive');
$sandbox->clear_faults('mailingcore', account => 'mc');
settle(q{SELECT contactsync_retry('mc')});
is(contact(101)->{attributes}{plan}, 'max', 'it can be retried');

# 5xx and a lost answer: repeating the call is safe
requests();
$sandbox->fault('mailingcore', { match => { account => 'mc' }, times => 2, effect => 'after', action => { status => 502, html => JSON::PP::true } });
settle(q{UPDATE customers SET plan = 'p1' WHERE id = 1});
@requests = requests();
is(scalar @requests, 3, 'a failed call is repeated');
is($requests[2]{body}, $requests[0]{body}, 'the repeated call is identical');
cmp_ok($requests[2]{clock} - $requests[1]{clock}, '>', 0.4, 'a pause precedes it');

# 429 without Retry-After: X-RateLimit-Reset
$sandbox->fault('mailingcore', { match => { account => 'mc' }, action => { status => 429, headers => { 'X-RateLimit-Reset' => '' . int($sandbox->call('GET', 'clock')->{now} + 60) } } });
settle(q{UPDATE customers SET plan = 'p2' WHERE id = 1});
@requests = requests();
cmp_ok($requests[1]{clock} - $requests[0]{clock}, '>', 30, 'a throttle ends when the provider says so');
is(sql('SELECT count(*) FROM contactsync.failures'), '0', 'a throttle causes no failure');

# configuration errors are named; nothing is lost
sub halts
{
	my ($what, $config, $reason, $mend) = @_;

	$sandbox->config('mailingcore', { account => 'mc', %$config });
	sql("UPDATE customers SET plan = '$what' WHERE id = 2");
	$node->poll_query_until('postgres', "SELECT state = 'halted' AND reason ~ '$reason' FROM contactsync.status")
	  or die "timed out waiting for $what";
	is(sql(q{SELECT backlog, failures FROM contactsync.status}), '1|0', "$what halts the server, and the change stays queued");
	$sandbox->config('mailingcore', { account => 'mc', %$mend });
	# a changed option is taken for a correction, so the server is tried immediately
	settle(q{ALTER SERVER mc OPTIONS (SET pace '999')});
	settle(q{ALTER SERVER mc OPTIONS (SET pace '1000')});
	is(contact(2)->{attributes}{plan}, $what, 'delivery resumes when the error is corrected');
	return;
}

my $key = (keys %{ $sandbox->call('GET', 'mailingcore/config', undef, account => 'mc')->{keys} })[0];
my $grant = { scopes => [ 'contacts:read', 'contacts:write', 'campaigns:read' ] };
halts('scope', { keys => { $key => { scopes => ['contacts:read'] } } }, '^missing_scope.*contacts:write', { keys => { $key => $grant } });
halts('revoked', { keys => { $key => { %$grant, revoked => JSON::PP::true } } }, '^unauthorized', { keys => { $key => { %$grant, revoked => JSON::PP::false } } });
halts('quota', { quota => { limit => 1000, used => 1100, percentage => 110 } }, '^quota_exceeded', { quota => undef });

# a deleted row is erased by externalId
requests();
settle('DELETE FROM customers WHERE id = 2');
is(lines(requests()), 'DELETE /contacts/2 200', 'a deleted row is erased');
ok(!contact(2), 'the contact is erased permanently');

# no row of a batch is lost because of a failure that is counted but not named
$sandbox->config('mailingcore', { account => 'mc', failed_details => JSON::PP::false });
$sandbox->fault('mailingcore', { match => { account => 'mc' }, times => undef, action => { reject_items => { 'c103@example.com' => { message => 'bounced', status => 422 } } } });
settle(q{UPDATE customers SET plan = 'last' WHERE id BETWEEN 101 AND 104});
is(sql('SELECT key, message FROM contactsync.failures'), '103|bounced', 'a failed contact that is not named is identified');
is((scalar grep { ($_->{attributes}{plan} // '') eq 'last' } contacts()), 3, 'the other contacts arrive');

$node->stop;
done_testing();
