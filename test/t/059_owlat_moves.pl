# A contact at Owlat gets another address (on_email_change 'follow'), and the worker is killed before the answer arrives. Creating
# does not find a contact that was moved, so whoever has one of the two addresses next must not get a second contact.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $topic = 'topicsingle000000000000000000000';
my $sandbox = start_sandbox();
my $node = start_node('restart_after_crash' => 'on');

sub sql { return $node->safe_psql('postgres', $_[0]); }

# Return who is at the provider whose address begins with a letter, such as "a2 Ann +", where + is a member of the topic.
sub there
{
	my ($account, $letter) = @_;
	my @contacts = grep { $_->{email} =~ /^$letter/ } @{ $sandbox->contacts('owlat', account => $account) };

	return join(', ', sort map { ($_->{email} =~ s/\@.*//r) . " $_->{firstName} " . ($_->{topics}{$topic} ? '+' : '-') } @contacts);
}

sub settle
{
	my ($account) = @_;

	$node->poll_query_until('postgres', qq{SELECT backlog = 0 AND worker = 'running' FROM contactsync.status WHERE server = '$account'})
	  or die "timed out waiting for $account";
	sql("CALL contactsync_wait('$account')");
	return;
}

# Have a row say that letter1 has become letter2; when that has arrived, run a statement, and kill the worker.
sub move_and_crash
{
	my ($account, $letter, $sql) = @_;

	sql(qq{INSERT INTO $account VALUES (ascii('$letter'), '${letter}1\@acme.io', 'Ann', true)});
	settle($account);
	is(there($account, $letter), "${letter}1 Ann +", "$account $letter: a contact");
	$sandbox->fault('owlat', { match => { account => $account, method => 'PUT' }, times => undef, effect => 'after', action => { stall => \1 } });
	sql(qq{UPDATE $account SET email = '${letter}2\@acme.io' WHERE id = ascii('$letter')});
	wait_for('the contact to move', sub { there($account, $letter) eq "${letter}2 Ann +" });
	sql($sql =~ s/TABLE/$account/gr =~ s/KEY/ascii('$letter')/gr =~ s/LETTER/$letter/gr);
	crash_worker($node, 'postgres');
	$sandbox->clear_faults('owlat', account => $account);
	settle($account);
	return;
}

my %watches = (ignored => q{on_delete => 'ignore'}, deleted => q{on_delete => 'delete', delete_delay => '1 h'});

foreach my $account (sort keys %watches)
{
	create_server($node, $sandbox, 'owlat', account => $account, server => { topic_id => $topic, on_email_change => 'follow', pace => 500, burst => 50 });
	$sandbox->config('owlat', { account => $account, topics => { $topic => { double_opt_in => \0 } } });
	sql(qq{
		CREATE TABLE $account (id int PRIMARY KEY, email text, name text, wants boolean);
		SELECT contactsync_watch('$account', '$account', '{"email": "email", "first_name": "name", "opt_in": "wants"}', $watches{$account})});

	move_and_crash($account, 'a', q{UPDATE TABLE SET name = 'Anna' WHERE id = KEY});
	is(there($account, 'a'), 'a2 Anna +', "$account: the row stays at the second address");

	move_and_crash($account, 'b', q{DELETE FROM TABLE WHERE id = KEY; INSERT INTO TABLE VALUES (1000 + KEY, 'LETTER2@acme.io', 'Anna', true)});
	is(there($account, 'b'), 'b2 Anna +', "$account: another row takes the second address");

	move_and_crash($account, 'c', q{DELETE FROM TABLE WHERE id = KEY});
	sql(qq{INSERT INTO $account VALUES (ascii('c'), 'c2\@acme.io', 'Anna', true)});
	settle($account);
	is(there($account, 'c'), 'c2 Anna +', "$account: the row goes, and returns with the second address");

	move_and_crash($account, 'd', q{UPDATE TABLE SET email = 'LETTER1@acme.io', name = 'Anna' WHERE id = KEY});
	is(there($account, 'd'), 'd1 Anna +', "$account: the row returns to the first address");

	move_and_crash($account, 'e', q{UPDATE TABLE SET email = 'LETTER1@acme.io', wants = false WHERE id = KEY});
	is(there($account, 'e'), 'e1 Ann -', "$account: the row returns to the first address, and says no");

	move_and_crash($account, 'f', q{UPDATE TABLE SET email = 'LETTER3@acme.io' WHERE id = KEY});
	is(there($account, 'f'), 'f3 Ann +', "$account: the row goes on to a third address");

	move_and_crash($account, 'g', q{DELETE FROM TABLE WHERE id = KEY});
	sql(qq{INSERT INTO $account VALUES (ascii('g'), 'g1\@acme.io', 'Anna', true)});
	settle($account);
	is(there($account, 'g'), 'g1 Anna +', "$account: the row goes, and returns with the first address");

	move_and_crash($account, 'h', q{UPDATE TABLE SET wants = false WHERE id = KEY});
	is(there($account, 'h'), 'h2 Ann -', "$account: the row says no at the second address");

	is(sql(qq{SELECT count(*) FROM contactsync.failures WHERE server = '$account'}), 0, "$account: nothing fails");

	# who is forgotten by one of the two addresses is forgotten by the other as well
	foreach my $number (1, 2)
	{
		my $letter = $number == 1 ? 'i' : 'j';

		move_and_crash($account, $letter, q{DELETE FROM TABLE WHERE id = KEY});
		sql(qq{SET client_min_messages = error; SELECT contactsync_forget('$letter$number\@acme.io')});
		wait_for('everything to be forgotten', sub { sql(qq{SELECT count(*) FROM contactsync.contact WHERE upsert_key ~ '^$letter' OR twin ~ '^$letter'}) eq '0' });
		is(there($account, $letter), $account eq 'deleted' ? '' : "${letter}2 Ann +", "$account: who is forgotten at address $number is forgotten at both");
	}
}

# a contact that has moved is not found by creating it, also if there is nothing to update
create_server($node, $sandbox, 'owlat', account => 'without', server => { topic_id => $topic, on_email_change => 'follow', pace => 500, burst => 50 });
$sandbox->config('owlat', { account => 'without', topics => { $topic => { double_opt_in => \0 } } });
sql(q{
	CREATE TABLE without (id int PRIMARY KEY, email text, wants boolean);
	SELECT contactsync_watch('without', 'without', '{"email": "email", "opt_in": "wants"}');
	INSERT INTO without VALUES (1, 'k1@acme.io', true); CALL contactsync_wait('without');
	UPDATE without SET email = 'k2@acme.io'; CALL contactsync_wait('without');
	UPDATE without SET wants = false; CALL contactsync_wait('without');
	UPDATE without SET wants = true; CALL contactsync_wait('without')});
is(there('without', 'k'), 'k2  +', 'a contact that has nothing but an address has one contact');

# ... or if it was unsubscribed when its row went
create_server($node, $sandbox, 'owlat', account => 'removed', server => { topic_id => $topic, on_email_change => 'follow', pace => 500, burst => 50 });
$sandbox->config('owlat', { account => 'removed', topics => { $topic => { double_opt_in => \0 } } });
sql(q{
	CREATE TABLE removed (id int PRIMARY KEY, email text, name text, wants boolean DEFAULT true);
	SELECT contactsync_watch('removed', 'removed', '{"email": "email", "first_name": "name", "opt_in": "wants"}', on_delete => 'unsubscribe', delete_delay => '0');
	INSERT INTO removed VALUES (1, 'l1@acme.io', 'Ann'); CALL contactsync_wait('removed');
	UPDATE removed SET email = 'l2@acme.io'; CALL contactsync_wait('removed');
	DELETE FROM removed});
wait_for('the contact to be unsubscribed', sub { there('removed', 'l') eq 'l2 Ann -' });
sql(q{INSERT INTO removed VALUES (2, 'l2@acme.io', 'Anna'); CALL contactsync_wait('removed')});
is(there('removed', 'l'), 'l2 Anna -', 'a contact that was unsubscribed when its row went has no second one when a row comes back, which is no word');

$node->stop;
done_testing();
