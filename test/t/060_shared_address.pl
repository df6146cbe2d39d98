# Rows with one address between them are one contact at a provider that goes by the address: the last change wins.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('shared_preload_libraries' => '');

# Who is at an address, and what for: "Bea SUBSCRIBED".
sub at_provider
{
	my ($email) = @_;
	my ($contact) = grep { $_->{email_address} eq $email } @{ $sandbox->contacts('campaignlark') };

	return $contact ? "$contact->{fields}{first_name} $contact->{status}" : 'nobody';
}

sub name_at_provider
{
	return at_provider('jane@example.com') =~ s/ SUBSCRIBED$//r;
}

# Each statement commits by itself, and nothing is sent before all of them have.
sub change
{
	my (@statements) = @_;
	my $before = $sandbox->count('campaignlark')->{requests};

	$node->safe_psql('postgres', $_) foreach @statements;
	$node->safe_psql('postgres', 'CALL contactsync_run()');
	return $sandbox->count('campaignlark')->{requests} - $before;
}

create_server($node, $sandbox, 'campaignlark', server => { on_email_change => 'unsubscribe' });
$node->safe_psql(
	'postgres', q{
	SET client_min_messages = warning;
	CREATE TABLE customers (id int PRIMARY KEY, email text, first_name text, opt_in bool DEFAULT true);
	SELECT contactsync_watch('customers', 'campaignlark', on_delete => 'unsubscribe');
});

is( change(
		q{INSERT INTO customers VALUES (1, 'jane@example.com', 'Ann')},
		q{INSERT INTO customers VALUES (2, ' JANE@example.com', 'Bea')}),
	2,
	'both are sent, one after the other');
is(scalar @{ $sandbox->contacts('campaignlark') }, 1, 'to one contact');
is(name_at_provider(), 'Bea', 'who was changed last comes last');

# 1 is sent in its old place with its newest value: 2, which stands between, is older
is( change(
		q{UPDATE customers SET first_name = 'Ann 2' WHERE id = 1},
		q{UPDATE customers SET first_name = 'Bea 2' WHERE id = 2},
		q{UPDATE customers SET first_name = 'Ann 3' WHERE id = 1}),
	1,
	'a change that is outdated when its turn comes is not sent');
is(name_at_provider(), 'Ann 3', 'and does not overwrite a newer one');
is($node->safe_psql('postgres', 'SELECT backlog, failures FROM contactsync.status'), '0|0', 'it is over all the same');

is( change(q{UPDATE customers SET first_name = 'Bea' WHERE id = 2}), 1,
	'what an outdated row sent before is not taken for what the provider has');
is(name_at_provider(), 'Bea', 'so it can go back to that');

# the line has passed: nothing is remembered that could hold back what comes
change(
	q{UPDATE customers SET first_name = 'Ann 4' WHERE id = 1},
	q{UPDATE customers SET first_name = 'Ann 5' WHERE id = 1},
	q{UPDATE customers SET first_name = 'Bea 5' WHERE id = 2});
is(name_at_provider(), 'Bea 5', 'what is newer than the newest goes');

# three of them, and somebody else in between
change(
	q{INSERT INTO customers VALUES (3, 'jane@example.com', 'Cid'), (4, 'other@example.com', 'Dan')},
	q{UPDATE customers SET first_name = 'Bea 6' WHERE id = 2},
	q{UPDATE customers SET first_name = 'Cid 6' WHERE id = 3},
	q{UPDATE customers SET first_name = 'Ann 6' WHERE id = 1},
	q{UPDATE customers SET first_name = 'Bea 7' WHERE id = 2});
is(name_at_provider(), 'Bea 7', 'of three it is the last as well');

# who is left has the address; the contact goes with the last of them
change(q{DELETE FROM customers WHERE id = 2});
like(name_at_provider(), qr/^(Ann|Cid) 6$/, 'when the last one goes, one of the others is there again');
change(q{DELETE FROM customers WHERE id = 3});
is(name_at_provider(), 'Ann 6', 'nobody is unsubscribed whom a row still means');
change(q{INSERT INTO customers VALUES (5, 'jane@example.com', 'Eve')}, q{UPDATE customers SET email = 'eve@example.com' WHERE id = 5});
is(at_provider('eve@example.com'), 'Eve SUBSCRIBED', 'a row that moves on before it was sent leaves nothing');
change(q{INSERT INTO customers VALUES (6, 'jane@example.com', 'Fay')});
is(name_at_provider(), 'Fay', 'one more');
change(q{UPDATE customers SET email = 'fay@example.com' WHERE id = 6});
is(name_at_provider() . ', ' . at_provider('fay@example.com'), 'Ann 6, Fay SUBSCRIBED', 'moves on, and leaves the contact to who is left');
change(q{UPDATE customers SET email = 'ann@example.com' WHERE id = 1});
is(at_provider('jane@example.com') . ', ' . at_provider('ann@example.com'),
	'Ann 6 UNSUBSCRIBED, Ann 6 SUBSCRIBED', 'the last one unsubscribes it');

# one who was never sent, for another was newer, counts as well
change(
	q{INSERT INTO customers VALUES (8, 'kim@example.com', 'Kim')},
	q{INSERT INTO customers VALUES (9, 'kim@example.com', 'Lou')},
	q{UPDATE customers SET first_name = 'Kim 2' WHERE id = 8});
is(at_provider('kim@example.com'), 'Kim 2 SUBSCRIBED', 'the last change wins');
change(q{DELETE FROM customers WHERE id = 8});
is(at_provider('kim@example.com'), 'Lou SUBSCRIBED', 'and leaves the contact to one who was not sent');

# and one whose address turned into none does not
change(q{INSERT INTO customers VALUES (8, 'kim@example.com', 'Kim')});
is(at_provider('kim@example.com'), 'Kim SUBSCRIBED', 'somebody comes');
change(q{UPDATE customers SET email = 'none' WHERE id = 8});
is(at_provider('kim@example.com'), 'Lou SUBSCRIBED', 'and has no address any more');
is($node->safe_psql('postgres', q{SELECT key, reason FROM contactsync.failures}), '8|invalid_email', 'which is a failure');
change(q{UPDATE customers SET email = 'lou@example.com' WHERE id = 9});
is(at_provider('kim@example.com'), 'Lou UNSUBSCRIBED', 'that does not keep the contact');

# an opt-out is not undone by who is left
change(q{INSERT INTO customers VALUES (7, 'ann@example.com', 'Gil', false)});
is(at_provider('ann@example.com'), 'Gil UNSUBSCRIBED', 'a row that shares the address opts out');
change(q{DELETE FROM customers WHERE id = 7});
is(at_provider('ann@example.com'), 'Ann 6 UNSUBSCRIBED', 'and stays so when the row has gone');
change(q{DELETE FROM customers WHERE id IN (1, 4, 5, 6, 8, 9)});
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT action, ',') FROM contactsync.contacts}), 'unsubscribe', 'all are gone');
change(map { "INSERT INTO customers VALUES ($_, 'jane\@example.com', 'new $_')" } 1 .. 3);

# the worker, while the first of them hangs
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'contactsync'");
$node->stop;
$node->start;
$sandbox->fault('campaignlark', { action => { stall => \1 } });
$node->safe_psql('postgres', q{UPDATE customers SET first_name = 'Ann 8' WHERE id = 1});
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{in_flight} });
$node->safe_psql('postgres', $_)
  foreach (
	q{UPDATE customers SET first_name = 'Bea 8' WHERE id = 2},
	q{UPDATE customers SET first_name = 'Cid 8' WHERE id = 3},
	q{UPDATE customers SET first_name = 'Bea 9' WHERE id = 2},
	q{UPDATE customers SET first_name = 'Ann 9' WHERE id = 1});
$sandbox->clear_faults('campaignlark');
$node->safe_psql('postgres', q{CALL contactsync_wait('campaignlark')});
is(name_at_provider(), 'Ann 9', 'and while one is on its way');

$node->stop;
done_testing();
