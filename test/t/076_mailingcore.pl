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

# The requests since the last question, and what stood in them.
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
		"opt_in": "newsletter", "attributes": {"plan": "plan"}}', on_delete => 'delete');
});

# the page's own example
settle(q{INSERT INTO customers VALUES (1, ' Alice@Example.com=20', 'Alice', 'en-GB', true), (2, 'bob@example.com', NULL, 'pt', NULL)});
my @requests = requests();
is(lines(@requests), 'POST /contacts/bulk 200', 'one call for two contacts');
like(header($requests[0], 'authorization'), qr/./, 'with the key');
is(header($requests[0], 'x-tenant-id'), 'mc', 'the tenant');
is(header($requests[0], 'content-type'), 'application/json', 'and the type');
my %row = map { $_->{externalId} => $_ } rows(@requests);
is_deeply($row{1}, { email => 'alice@example.com', externalId => '1', locale => 'en', optIn => JSON::PP::true, attributes => { firstName => 'Alice' } },
	'a contact as on the page: the address normalised, the base of the locale');
is_deeply($row{2}, { email => 'bob@example.com', externalId => '2' }, 'no locale outside the six, no consent that is not known');
is(sql(q{SELECT remote_id IS NULL, action FROM contactsync.contacts WHERE key = '1'}), 't|upsert', 'stored here as what was sent');

is(sql(q{SELECT contacts, created, updated, failed FROM contactsync.calls}), '2|2|0|0', 'and so are the counts of the summary');

# deltas only
settle(q{UPDATE customers SET note = 'x', plan = NULL; UPDATE customers SET first_name = 'Alicia' WHERE id = 1});
@requests = requests();
is(join(' ', map { $_->{externalId} } rows(@requests)), '1', 'who changed is sent, and nobody else');
ok(!exists((rows(@requests))[0]{optIn}), 'without claiming consent again');

# never more than a thousand, and never none
settle(q{INSERT INTO customers SELECT g, format('c%s@example.com', g), 'C', 'es', false, 'pro' FROM generate_series(101, 2600) g});
@requests = requests();
my @sizes = map { scalar rows($_) } @requests;
is((scalar grep { $_ < 1 || $_ > 1000 } @sizes), 0, "batches of 1 to 1000 (@sizes)");
is(eval { my $sum = 0; $sum += $_ foreach @sizes; $sum }, 2500, 'each contact once');
cmp_ok(scalar @sizes, '<', 10, 'in few calls');
is((scalar grep { my %ids; grep { $ids{ $_->{externalId} }++ } rows($_) } @requests), 0, 'no key twice in one');

# two rows with one address are never in one batch; the second one is refused, and fails alone
settle(q{INSERT INTO customers VALUES (11, 'same@example.com'), (12, 'Same@example.com'), (13, 'other@example.com')});
@requests = requests();
is((scalar grep { my %emails; grep { $emails{ $_->{email} }++ } rows($_) } grep { $_->{path} =~ /bulk/ } @requests), 0, 'no address twice in one batch');
is(sql(q{SELECT reason FROM contactsync.failures}), 'conflict', 'an address that belongs to another externalId is a conflict');
ok(contact(13), 'the others arrive');
settle(q{DELETE FROM customers WHERE id IN (11, 12)});
requests();

# consent is withdrawn and given
settle('UPDATE customers SET newsletter = false WHERE id = 1');
is(JSON::PP::encode_json([ map { $_->{optIn} } rows(requests()) ]), '[false]', 'an opt-out is sent, as a boolean');
settle('UPDATE customers SET newsletter = true WHERE id = 1');
is(JSON::PP::encode_json([ map { $_->{optIn} } rows(requests()) ]), '[true]', 'and so is a new opt-in');

# a value that was sent and became null
$sandbox->config('mailingcore', { account => 'mc', nulls => 'clear' });
settle(q{UPDATE customers SET plan = 'gold' WHERE id = 1});
settle(q{UPDATE customers SET plan = NULL WHERE id = 1});
is(contact(1)->{attributes}{plan}, 'gold', 'nulls are left out at first');
settle(q{ALTER SERVER mc OPTIONS (ADD nulls 'clear')});
requests();
settle(q{BEGIN; UPDATE customers SET plan = 'x' WHERE id = 1; UPDATE customers SET plan = NULL WHERE id = 1; COMMIT});
ok(exists((rows(requests()))[0]{attributes}{plan}), 'and are sent when they are to clear, though the row is as it was sent before');
is(contact(1)->{attributes}{plan}, undef, 'so the value is gone');
settle(q{ALTER SERVER mc OPTIONS (DROP nulls)});
$sandbox->config('mailingcore', { account => 'mc', nulls => 'refuse' });

# the batch is refused on account of one, whom we would have sent: the others go
$sandbox->fault('mailingcore', { match => { account => 'mc', key => '101' }, times => undef, action => { status => 400, body => '{"statusCode": 400, "message": ["contacts.0.email must be an email"]}' } });
requests();
settle(q{UPDATE customers SET plan = 'max' WHERE id BETWEEN 101 AND 108});
is(sql(q{SELECT key, reason, field, message FROM contactsync.failures}), '101|invalid_email|email|contacts.0.email must be an email', 'who makes MailingCore refuse the batch fails alone');
is((scalar grep { ($_->{attributes}{plan} // '') eq 'max' } contacts()), 7, 'the others arrive');
$sandbox->clear_faults('mailingcore', account => 'mc');
settle(q{SELECT contactsync_retry('mc')});
is(contact(101)->{attributes}{plan}, 'max', 'and the one is sent again on demand');

# 5xx and a lost answer: the same again, which is safe
requests();
$sandbox->fault('mailingcore', { match => { account => 'mc' }, times => 2, effect => 'after', action => { status => 502, html => JSON::PP::true } });
settle(q{UPDATE customers SET plan = 'p1' WHERE id = 1});
@requests = requests();
is(scalar @requests, 3, 'a call that fails is made again');
is($requests[2]{body}, $requests[0]{body}, 'just as it was');
cmp_ok($requests[2]{clock} - $requests[1]{clock}, '>', 0.4, 'after a pause');

# 429 without Retry-After: X-RateLimit-Reset
$sandbox->fault('mailingcore', { match => { account => 'mc' }, action => { status => 429, headers => { 'X-RateLimit-Reset' => '' . int($sandbox->call('GET', 'clock')->{now} + 60) } } });
settle(q{UPDATE customers SET plan = 'p2' WHERE id = 1});
@requests = requests();
cmp_ok($requests[1]{clock} - $requests[0]{clock}, '>', 30, 'a throttle ends when the provider says so');
is(sql('SELECT count(*) FROM contactsync.failures'), '0', 'and is nobody\'s failure');

# faults of the configuration, by name; nothing is lost
sub halts
{
	my ($what, $config, $reason, $mend) = @_;

	$sandbox->config('mailingcore', { account => 'mc', %$config });
	sql("UPDATE customers SET plan = '$what' WHERE id = 2");
	$node->poll_query_until('postgres', "SELECT state = 'halted' AND reason ~ '$reason' FROM contactsync.status")
	  or die "timed out waiting for $what";
	is(sql(q{SELECT backlog, failures FROM contactsync.status}), '1|0', "$what halts the server, and the queue stays");
	$sandbox->config('mailingcore', { account => 'mc', %$mend });
	# an option that changes is taken for a mend, so it is tried at once
	settle(q{ALTER SERVER mc OPTIONS (SET pace '999')});
	settle(q{ALTER SERVER mc OPTIONS (SET pace '1000')});
	is(contact(2)->{attributes}{plan}, $what, 'and goes on when it is mended');
	return;
}

my $key = (keys %{ $sandbox->call('GET', 'mailingcore/config', undef, account => 'mc')->{keys} })[0];
my $grant = { scopes => [ 'contacts:read', 'contacts:write', 'campaigns:read' ] };
halts('scope', { keys => { $key => { scopes => ['contacts:read'] } } }, '^missing_scope.*contacts:write', { keys => { $key => $grant } });
halts('revoked', { keys => { $key => { %$grant, revoked => JSON::PP::true } } }, '^unauthorized', { keys => { $key => { %$grant, revoked => JSON::PP::false } } });
halts('quota', { quota => { limit => 1000, used => 1100, percentage => 110 } }, '^quota_exceeded', { quota => undef });

# a row that is deleted is erased, by externalId
requests();
settle('DELETE FROM customers WHERE id = 2');
is(lines(requests()), 'DELETE /contacts/2 200', 'a deleted row is erased');
ok(!contact(2), 'for good');

# no row of a batch is lost for a failure that is counted and not named
$sandbox->config('mailingcore', { account => 'mc', failed_details => JSON::PP::false });
$sandbox->fault('mailingcore', { match => { account => 'mc' }, times => undef, action => { reject_items => { 'c103@example.com' => { message => 'bounced', status => 422 } } } });
settle(q{UPDATE customers SET plan = 'last' WHERE id BETWEEN 101 AND 104});
is(sql('SELECT key, message FROM contactsync.failures'), '103|bounced', 'who is counted among the failed and not named is found');
is((scalar grep { ($_->{attributes}{plan} // '') eq 'last' } contacts()), 3, 'and the others are there');

$node->stop;
done_testing();
