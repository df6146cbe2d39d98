# Rows that share an address are one contact at a provider that identifies contacts by address: the last change wins.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('shared_preload_libraries' => '');

# Return the contact at an address, such as "Bea SUBSCRIBED".
sub at_provider
{
	my ($email) = @_;
	my ($contact) = grep { $_->{email_address} eq $email } @{ $sandbox->contacts('campaignlark') };

	return $contact ? "$contact->{fields}{first_name} $contact->{status}" : 'nobody';
}

sub name_at
{
	my ($email) = @_;

	return at_provider($email) =~ s/ SUBSCRIBED$//r;
}

sub name_at_provider
{
	return name_at('jane@example.com');
}

# Each statement commits separately, and nothing is sent before all of them have committed.
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
	SELECT contactsync_watch('customers', 'campaignlark', on_delete => 'unsubscribe', delete_delay => '0', delete_guard => 'off');
});

is( change(
		q{INSERT INTO customers VALUES (1, 'jane@example.com', 'Ann')},
		q{INSERT INTO customers VALUES (2, ' JANE@example.com', 'Bea')}),
	2,
	'both rows are sent, one after the other');
is(scalar @{ $sandbox->contacts('campaignlark') }, 1, 'they are one contact');
is(name_at_provider(), 'Bea', 'the row that changed last is sent last');

# row 1 is sent in its old position with its newest value: row 2, which is between, is older
is( change(
		q{UPDATE customers SET first_name = 'Ann 2' WHERE id = 1},
		q{UPDATE customers SET first_name = 'Bea 2' WHERE id = 2},
		q{UPDATE customers SET first_name = 'Ann 3' WHERE id = 1}),
	1,
	'a change that is superseded before its turn is not sent');
is(name_at_provider(), 'Ann 3', 'it does not overwrite the newer value');
is($node->safe_psql('postgres', 'SELECT backlog, failures FROM contactsync.status'), '0|0', 'it leaves the queue nevertheless');

is( change(q{UPDATE customers SET first_name = 'Bea' WHERE id = 2}), 1,
	'a superseded row is sent again if it returns to its earlier value');
is(name_at_provider(), 'Bea', 'the provider has that value');

# the queue is empty: nothing remains that could delay later changes
change(
	q{UPDATE customers SET first_name = 'Ann 4' WHERE id = 1},
	q{UPDATE customers SET first_name = 'Ann 5' WHERE id = 1},
	q{UPDATE customers SET first_name = 'Bea 5' WHERE id = 2});
is(name_at_provider(), 'Bea 5', 'a newer value is sent');

# three rows, with another address in between
change(
	q{INSERT INTO customers VALUES (3, 'jane@example.com', 'Cid'), (4, 'other@example.com', 'Dan')},
	q{UPDATE customers SET first_name = 'Bea 6' WHERE id = 2},
	q{UPDATE customers SET first_name = 'Cid 6' WHERE id = 3},
	q{UPDATE customers SET first_name = 'Ann 6' WHERE id = 1},
	q{UPDATE customers SET first_name = 'Bea 7' WHERE id = 2});
is(name_at_provider(), 'Bea 7', 'the last of three rows wins');

# the remaining rows still have the address; the contact is removed with the last of them
change(q{DELETE FROM customers WHERE id = 2});
like(name_at_provider(), qr/^(Ann|Cid) 6$/, 'when the last row is deleted, the contact shows one of the others');
change(q{DELETE FROM customers WHERE id = 3});
is(name_at_provider(), 'Ann 6', 'a contact is not unsubscribed while another row has its address');
change(q{INSERT INTO customers VALUES (5, 'jane@example.com', 'Eve')}, q{UPDATE customers SET email = 'eve@example.com' WHERE id = 5});
is(at_provider('eve@example.com'), 'Eve SUBSCRIBED', 'a row that changes its address before it is sent leaves no contact');
change(q{INSERT INTO customers VALUES (6, 'jane@example.com', 'Fay')});
is(name_at_provider(), 'Fay', 'another row takes the address');
change(q{UPDATE customers SET email = 'fay@example.com' WHERE id = 6});
is(name_at_provider() . ', ' . at_provider('fay@example.com'), 'Ann 6, Fay SUBSCRIBED', 'when it changes its address, the contact passes to a remaining row');
change(q{UPDATE customers SET email = 'ann@example.com' WHERE id = 1});
is(at_provider('jane@example.com') . ', ' . at_provider('ann@example.com'),
	'Ann 6 UNSUBSCRIBED, Ann 6 SUBSCRIBED', 'the last row unsubscribes the contact');

# a row that was never sent, because another was newer, counts as well
change(
	q{INSERT INTO customers VALUES (8, 'kim@example.com', 'Kim')},
	q{INSERT INTO customers VALUES (9, 'kim@example.com', 'Lou')},
	q{UPDATE customers SET first_name = 'Kim 2' WHERE id = 8});
is(at_provider('kim@example.com'), 'Kim 2 SUBSCRIBED', 'the last change wins');
change(q{DELETE FROM customers WHERE id = 8});
is(at_provider('kim@example.com'), 'Lou SUBSCRIBED', 'the contact passes to the row that was never sent');

# a row whose address became invalid does not count
change(q{INSERT INTO customers VALUES (8, 'kim@example.com', 'Kim')});
is(at_provider('kim@example.com'), 'Kim SUBSCRIBED', 'a new row takes the contact');
change(q{UPDATE customers SET email = 'none' WHERE id = 8});
is(at_provider('kim@example.com'), 'Lou SUBSCRIBED', 'the contact passes to another row when the address becomes invalid');
is($node->safe_psql('postgres', q{SELECT key, reason FROM contactsync.failures}), '8|invalid_email', 'the invalid address is a failure');
change(q{UPDATE customers SET email = 'lou@example.com' WHERE id = 9});
is(at_provider('kim@example.com'), 'Lou UNSUBSCRIBED', 'the row with the invalid address does not keep the contact');

# a row that is to speak, because another has gone, but a third one changes before its turn
change(qq{INSERT INTO customers VALUES ($_, 'ray\@example.com', 'Ray $_')}) foreach 23 .. 25;
change(q{DELETE FROM customers WHERE id = 25}, q{UPDATE customers SET first_name = 'Ray again' WHERE id = 23});
is(name_at('ray@example.com'), 'Ray again', 'a row that is to speak for another does not, if a third one has spoken since');
change(q{DELETE FROM customers WHERE id IN (23, 24)});

# rows that leave an address together: the one that remains speaks, also if it is not the one that spoke before the last
change(qq{INSERT INTO customers VALUES ($_, 'sam\@example.com', 'Sam $_')}) foreach 31, 33, 32;
change(q{UPDATE customers SET email = 'sue@example.com' WHERE id = 32; UPDATE customers SET email = 'sue@example.com' WHERE id = 33});
is(name_at('sam@example.com'), 'Sam 31', 'the row that remains speaks, though the one that spoke before the last leaves as well');
change(q{DELETE FROM customers WHERE id IN (31, 32, 33)});

# a row that says no between two changes of another, which is sent in its old position
change(
	q{INSERT INTO customers VALUES (21, 'max@example.com', 'Max', true)},
	q{INSERT INTO customers VALUES (22, 'max@example.com', 'Ned', false)},
	q{UPDATE customers SET first_name = 'Max 2' WHERE id = 21});
is(at_provider('max@example.com'), 'Max 2 UNSUBSCRIBED', 'other values of another row do not outdate a no');
is($node->safe_psql('postgres', 'SELECT backlog FROM contactsync.status'), '0', 'the queue is empty then');
change(q{UPDATE customers SET first_name = 'Max 3' WHERE id = 21});
is(at_provider('max@example.com'), 'Max 3 UNSUBSCRIBED', '... nor do later ones');
change(q{UPDATE customers SET opt_in = true WHERE id = 22});
is(at_provider('max@example.com'), 'Ned SUBSCRIBED', 'a word does');
change(q{UPDATE customers SET opt_in = false WHERE id = 21});
change(
	q{UPDATE customers SET first_name = 'Max 4' WHERE id = 21},
	q{UPDATE customers SET opt_in = false WHERE id = 22},
	q{UPDATE customers SET opt_in = true WHERE id = 21});
is(at_provider('max@example.com'), 'Max 4 SUBSCRIBED', '... also one that comes after the no and is sent before');
change(q{UPDATE customers SET first_name = 'Max 5' WHERE id = 21});
is(at_provider('max@example.com'), 'Max 5 SUBSCRIBED', '... and stands');
change(q{DELETE FROM customers WHERE id IN (21, 22)});

# of the rows that remain, the one that was sent last speaks for the contact
change(qq{INSERT INTO customers VALUES ($_, 'pat\@example.com', 'Pat $_')}) foreach 11 .. 14;
change(qq{UPDATE customers SET first_name = 'Pat $_ again' WHERE id = $_}) foreach 13, 12, 14;
change(q{DELETE FROM customers WHERE id = 14});
is(name_at('pat@example.com'), 'Pat 12 again', 'the contact passes to the row that was sent last before');
$node->safe_psql('postgres', q{SELECT contactsync_mark_stale('campaignlark')});
change(q{UPDATE customers SET first_name = 'Patty' WHERE id = 11}, q{UPDATE customers SET first_name = 'Pat 11' WHERE id = 11});
is(name_at('pat@example.com'), 'Pat 12 again', 'a row that has not changed does not speak for a contact of which nothing is trusted');
$node->safe_psql('postgres', q{SELECT contactsync_mark_stale('campaignlark')});
change(q{SELECT contactsync_reconcile('customers', 'campaignlark')});
is(name_at('pat@example.com'), 'Pat 12 again', 'neither does it if all contacts are sent again');
$node->safe_psql('postgres', q{
	CREATE TABLE guests (LIKE customers INCLUDING ALL);
	SELECT contactsync_watch('guests', 'campaignlark', mapping, on_delete => 'unsubscribe', delete_delay => '0') FROM contactsync.watches WHERE source::text = 'customers'});
change(q{INSERT INTO guests VALUES (1, 'pat@example.com', 'Guest')});
is(name_at('pat@example.com'), 'Guest', 'a row of another watch speaks');
$node->safe_psql('postgres', q{SELECT contactsync_mark_stale('campaignlark')});
change(q{SELECT contactsync_reconcile('customers', 'campaignlark')});
is(name_at('pat@example.com'), 'Guest', 'it still does when all contacts of the first watch are sent again');
my $mapping = $node->safe_psql('postgres', q{SELECT mapping FROM contactsync.watches WHERE source::text = 'customers'});
change(q{SET client_min_messages = error; SELECT contactsync_alter_watch('customers', 'campaignlark', mapping => mapping || '{"first_name": "upper(first_name)"}') FROM contactsync.watches WHERE source::text = 'customers'},
	q{SELECT contactsync_reconcile('customers', 'campaignlark')});
is(name_at('pat@example.com'), 'Guest', '... or when they are mapped in another way');
$node->safe_psql('postgres', qq{SET client_min_messages = error; SELECT contactsync_alter_watch('customers', 'campaignlark', mapping => '$mapping')});
change(q{DELETE FROM guests}, q{SELECT contactsync_reconcile('customers', 'campaignlark')});
change(q{DELETE FROM customers WHERE id IN (11, 12, 13)});

# a row that is mapped in another way, and another one that shares its address since
my $with_mark = q{SET client_min_messages = error; SELECT contactsync_alter_watch('customers', 'campaignlark', mapping => mapping || '{"first_name": "first_name || ''*''"}') FROM contactsync.watches WHERE source::text = 'customers'};
change(q{INSERT INTO customers VALUES (15, 'kay@example.com', 'Kay')});
change($with_mark);
change(q{INSERT INTO customers VALUES (16, 'kay@example.com', 'Kim')});
change(q{SELECT contactsync_import('customers', 'campaignlark', automations => 'accepted')});
is(name_at('kay@example.com'), 'Kim*', 'a row has not changed because its mapping has, also if it was the only one of the contact then');
change(q{DELETE FROM customers WHERE id = 16});
is(name_at('kay@example.com'), 'Kay*', 'it speaks when the other one goes');
$node->safe_psql('postgres', qq{SET client_min_messages = error; SELECT contactsync_alter_watch('customers', 'campaignlark', mapping => '$mapping')});
change(q{DELETE FROM customers WHERE id = 15}, q{SELECT contactsync_reconcile('customers', 'campaignlark')});

# the remaining rows do not undo an opt-out
change(q{INSERT INTO customers VALUES (7, 'ann@example.com', 'Gil', false)});
is(at_provider('ann@example.com'), 'Gil UNSUBSCRIBED', 'a row that shares the address opts out');
change(q{DELETE FROM customers WHERE id = 7});
is(at_provider('ann@example.com'), 'Ann 6 UNSUBSCRIBED', 'the opt-out remains when that row is deleted');
change(q{DELETE FROM customers WHERE id IN (1, 4, 5, 6, 8, 9)});
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT action, ',') FROM contactsync.contacts}), 'unsubscribe', 'all contacts are unsubscribed');
change(map { "INSERT INTO customers VALUES ($_, 'last\@example.com', 'new $_')" } 1 .. 3);

# with the worker, while the first call hangs
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
is(at_provider('last@example.com'), 'Ann 9 SUBSCRIBED', 'the last change wins while a call is in flight');

# a row that changes again while its call is in flight, and then another one
$sandbox->fault('campaignlark', { action => { stall => \1 } });
$node->safe_psql('postgres', q{UPDATE customers SET first_name = 'Ann 10' WHERE id = 1});
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{in_flight} });
$node->safe_psql('postgres', q{UPDATE customers SET first_name = 'Ann 11' WHERE id = 1});
$node->safe_psql('postgres', q{UPDATE customers SET first_name = 'Bea 12' WHERE id = 2});
$sandbox->clear_faults('campaignlark');
$node->safe_psql('postgres', q{CALL contactsync_wait('campaignlark')});
is(name_at('last@example.com'), 'Bea 12', 'a row that is sent again after another one has changed does not overwrite it');
$node->safe_psql('postgres', q{UPDATE customers SET first_name = 'Ann 9' WHERE id = 1; CALL contactsync_wait('campaignlark')});

# another key is no other row
my $calls = $sandbox->count('campaignlark')->{requests};
$node->safe_psql('postgres', q{UPDATE customers SET id = 11 WHERE id = 1; CALL contactsync_wait('campaignlark')});
is($sandbox->count('campaignlark')->{requests}, $calls, 'no call is made when the row that changed last gets another key');

# a row that was sent, perhaps, and has gone before its outcome was known
$sandbox->fault('campaignlark', { effect => 'after', times => undef, action => { status => 503 } });
$node->safe_psql('postgres', q{INSERT INTO customers VALUES (20, 'last@example.com', 'Lost')});
wait_for('a lost answer', sub { at_provider('last@example.com') eq 'Lost SUBSCRIBED' });
$node->safe_psql('postgres', q{DELETE FROM customers WHERE id = 20});
$sandbox->clear_faults('campaignlark');
$node->safe_psql('postgres', q{CALL contactsync_wait('campaignlark')});
like(at_provider('last@example.com'), qr/^(Ann|Bea|Cid) \d SUBSCRIBED$/, 'the contact shows one of the remaining rows again');

# two rows of a contact that may both have been sent, and have gone, are stored together
$node->safe_psql('postgres', q{INSERT INTO customers VALUES (30, 'twice@example.com', 'One'), (31, 'twice@example.com', 'Two'); CALL contactsync_wait('campaignlark')});
$sandbox->fault('campaignlark', { effect => 'after', times => undef, action => { status => 503 } });
my $since = $sandbox->count('campaignlark')->{requests};
$node->safe_psql('postgres', q{UPDATE customers SET first_name = 'Both' WHERE id IN (30, 31)});
wait_for('a lost answer', sub { $sandbox->count('campaignlark')->{requests} > $since });
$node->safe_psql('postgres', q{DELETE FROM customers WHERE id IN (30, 31); ALTER SERVER campaignlark OPTIONS (ADD timeout '61s')});
$sandbox->clear_faults('campaignlark');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM contactsync.queue}), 'the lane does not stand still');

# a row brings back a contact that was unsubscribed, the answer is lost, and the row goes
$node->safe_psql('postgres', q{INSERT INTO customers VALUES (21, 'ned@example.com', 'Ned'); CALL contactsync_wait('campaignlark')});
$node->safe_psql('postgres', q{DELETE FROM customers WHERE id = 21; CALL contactsync_wait('campaignlark')});
is(at_provider('ned@example.com'), 'Ned UNSUBSCRIBED', 'a contact is unsubscribed with its row');
$node->safe_psql('postgres', q{INSERT INTO customers VALUES (22, 'ned@example.com', 'Ned', false); CALL contactsync_wait('campaignlark')});
$node->safe_psql('postgres', q{DELETE FROM customers WHERE id = 22; CALL contactsync_wait('campaignlark')});
$sandbox->fault('campaignlark', { effect => 'after', times => 100, action => { status => 503 } });
$node->safe_psql('postgres', q{INSERT INTO customers VALUES (23, 'ned@example.com', 'Ned again')});
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{body} =~ /SUBSCRIBED/ && $_[-1]{body} =~ /Ned again/ && $_[-1]{status} });
is(at_provider('ned@example.com'), 'Ned again SUBSCRIBED', 'a new row that says yes subscribes it, without an answer');
$node->safe_psql('postgres', q{DELETE FROM customers WHERE id = 23});
$sandbox->clear_faults('campaignlark');
$node->safe_psql('postgres', q{CALL contactsync_wait('campaignlark')});
is(at_provider('ned@example.com'), 'Ned again UNSUBSCRIBED', 'it is unsubscribed when that row goes');

# a row of a new watch is sent, the answer is lost, and the row goes and comes back as it was
$node->safe_psql(
	'postgres', q{
	SET client_min_messages = warning;
	CREATE TABLE members (id int PRIMARY KEY, email text, first_name text, opt_in bool DEFAULT true, live bool DEFAULT true);
	SELECT contactsync_watch('members', 'campaignlark', filter => 'live');
	INSERT INTO members VALUES (1, 'mem@example.com', 'Mem');
	CALL contactsync_wait('campaignlark');
	SELECT contactsync_unwatch('members', 'campaignlark'), contactsync_watch('members', 'campaignlark', filter => 'live')});
$sandbox->fault('campaignlark', { effect => 'after', times => 100, action => { status => 503 } });
$node->safe_psql('postgres', q{UPDATE members SET first_name = 'Lost'});
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{body} =~ /Lost/ });
$node->safe_psql('postgres', q{UPDATE members SET live = false});
$sandbox->clear_faults('campaignlark');
$node->safe_psql('postgres', q{CALL contactsync_wait('campaignlark')});
$node->safe_psql('postgres', q{UPDATE members SET live = true, first_name = 'Mem'; CALL contactsync_wait('campaignlark')});
is(name_at('mem@example.com'), 'Mem', 'what may have arrived is overwritten when the row is as it was before');

$node->stop;
done_testing();
