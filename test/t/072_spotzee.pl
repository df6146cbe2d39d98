# Spotzee from end to end: batches with idempotency keys, partial failures, and values that return to an earlier one.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

create_server($node, $sandbox, 'spotzee', account => 'spot', server => { pace => 500, burst => 50 });
$node->safe_psql(
	'postgres', q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, phone text, first_name text, plan text, score numeric);
	SELECT contactsync_watch('customers', 'spot', '{"external_id": "id", "email": "email", "phone": "phone",
		"first_name": "first_name", "attributes": {"plan": "plan", "score": "score"}}', on_delete => 'delete', delete_delay => '0');
});

sub settle { $node->safe_psql('postgres', "$_[0]; CALL contactsync_wait('spot')"); return; }
sub contacts { return @{ $sandbox->contacts('spotzee', account => 'spot') }; }

sub contact
{
	my ($id) = @_;
	my ($contact) = grep { $_->{external_id} eq $id } contacts();

	return $contact;
}

sub posts
{
	return grep { $_->{method} eq 'POST' } @{ $sandbox->journal('spotzee', account => 'spot') };
}

# The journal contains headers as pairs, in the order of arrival.
sub keys_of
{
	return map { my ($header) = grep { lc $_->[0] eq 'idempotency-key' } @{ $_->{headers} }; $header->[1] } @_;
}

settle(q{INSERT INTO customers SELECT n, n || '@example.com', NULL, 'N' || n, 'free', n FROM generate_series(1, 250) n});
is(scalar(contacts()), 250, 'all contacts arrive');
is(contact(7)->{first_name}, 'N7', 'names are first-class fields');
is_deeply(contact(7)->{data}, { plan => 'free', score => 7 }, 'other fields are in data, with their types');
is(scalar(posts()), 3, 'batches have a hundred contacts');
my %distinct = map { $_ => 1 } keys_of(posts());
is(scalar(keys %distinct), 3, 'each batch has its own key');

# A, B, A within a day: the second A is applied, not answered from Spotzee's stored answers
foreach my $plan ('A', 'B', 'A')
{
	settle("UPDATE customers SET plan = '$plan' WHERE id = 1");
	is(contact(1)->{data}{plan}, $plan, "plan $plan arrives");
}

# the answer is lost, the retry has the same key, and the contact is written once
my $before = posts();
$sandbox->fault('spotzee', { match => { account => 'spot', method => 'POST' }, effect => 'after', action => { status => 503 } });
settle("UPDATE customers SET plan = 'lost' WHERE id = 2");
my @retry = (posts())[ $before .. posts() - 1 ];
is(scalar(@retry), 2, 'the call is repeated');
is((keys_of(@retry))[0], (keys_of(@retry))[1], 'the repeated call has the same key');
is($retry[0]{body}, $retry[1]{body}, 'the repeated call has the same body');
is(contact(2)->{data}{plan}, 'lost', 'the contact arrives');

# partial failure: only the failed contacts are sent again, in another request with a new key
$sandbox->fault('spotzee',
	{ match => { account => 'spot', method => 'POST' }, action => { reject_items => {
		3 => { code => 'rate_limited', message => 'later', status => 429 },
		4 => { code => 'parameter_invalid_format', message => 'phone is invalid', status => 400 } } } });
$before = posts();
settle("UPDATE customers SET phone = '+4917000000' || id WHERE id BETWEEN 3 AND 5");
@retry = (posts())[ $before .. posts() - 1 ];
is(contact(3)->{phone}, '+49170000003', 'a contact that failed because of Spotzee arrives');
is(contact(5)->{phone}, '+49170000005', 'a contact that was committed with the failures has arrived');
isnt((keys_of($retry[0]))[0], (keys_of($retry[-1]))[0], 'the second request has a new key');
is($node->safe_psql('postgres', 'SELECT key, code, message FROM contactsync.failures'), '4|parameter_invalid_format|phone is invalid', 'the other contact is a failure with its code')
  or diag($node->safe_psql('postgres', 'TABLE contactsync.failures'));
is($node->safe_psql('postgres', "SELECT contactsync_retry('spot')"), '1', 'contactsync_retry() counts the failure');
settle('SELECT 1');
is(contact(4)->{phone}, '+49170000004', 'the retried contact arrives');

# the contact for which Spotzee refuses the batch is identified
$sandbox->config('spotzee', { account => 'spot', invalid_items => 'request' });
settle(q{UPDATE customers SET phone = CASE id WHEN 13 THEN 'nonsense' ELSE '+346000000' || id END WHERE id BETWEEN 11 AND 20});
is(scalar(grep { ($_->{phone} // '') =~ /^\+34600/ } contacts()), 9, 'nine of ten arrive');
like($node->safe_psql('postgres', 'SELECT reason FROM contactsync.failures'), qr/^rejected$/, 'the tenth is a failure');

settle('DELETE FROM customers WHERE id = 6');
wait_for('the contact to go', sub { !contact(6) });
pass('a deleted row deletes the contact');

done_testing();
