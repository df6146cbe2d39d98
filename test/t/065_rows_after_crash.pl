# Two rows are one contact. A bulk change of one of them is half sent when the worker is killed, so that it is queued still. What
# the other row has said since is not overwritten by it.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox(clock_speed => 10);
my $node = start_node('restart_after_crash' => 'on', 'contactsync.clock_speed' => 10);

create_server($node, $sandbox, 'campaignlark', server => { pace => 1000, burst => 1000, timeout => '1h' });
$node->safe_psql(
	'postgres', q{
	SET client_min_messages = warning;
	CREATE TABLE customers (id int PRIMARY KEY, email text NOT NULL, name text, consent boolean NOT NULL DEFAULT true);
	SELECT contactsync_watch('customers', 'campaignlark', '{"email": "email", "first_name": "name", "opt_in": "consent"}');
});

sub sql { my ($statement) = @_; return $node->safe_psql('postgres', $statement); }
sub last_seq { return $sandbox->journal('campaignlark')->[-1]{seq}; }

# Return what was said of the contact since, such as "Ann, Bea UNSUBSCRIBED".
sub said
{
	my ($email, $since) = @_;
	my @said;

	foreach my $call (grep { $_->{seq} > $since && grep { $_ eq $email } @{ $_->{keys} } } @{ $sandbox->journal('campaignlark') })
	{
		push @said, join(' ', grep { defined } $call->{body} =~ /"first_name":"(\w+)"/, $call->{body} =~ /"status":"(UNSUB\w+)"/);
	}
	return join(', ', @said);
}

# Change rows, and wait until the row with that key has spoken for the contact.
sub change
{
	my ($statement, $email, $key) = @_;

	sql($statement);
	$node->poll_query_until('postgres', "SELECT key = '$key' FROM contactsync.contacts WHERE upsert_key = '$email'")
	  or die "timed out waiting for: $statement";
	return;
}

# Hold the call for a contact, and have the statement change it last.
sub hold
{
	my ($email, %script) = @_;

	$sandbox->fault('campaignlark', { match => { email => $email }, times => undef, action => { stall => \1 }, %script });
	return;
}

sub wait_for_call
{
	my ($email, $since) = @_;

	$sandbox->wait_for_journal('campaignlark', sub { grep { $_->{seq} > $since && $_->{keys}[0] eq $email } @_ });
	return;
}

sub crash
{
	flush_wal($node);
	crash_worker($node, 'postgres');
	$sandbox->clear_faults('campaignlark');
	return;
}

sub at_provider
{
	my ($email) = @_;
	my ($contact) = grep { $_->{email_address} eq $email } @{ $sandbox->contacts('campaignlark') };

	return "$contact->{fields}{first_name} $contact->{status}";
}

sub deliver { return sql(q{CALL contactsync_wait('campaignlark')}); }

# a row that has its outcome does not speak again
change(q{INSERT INTO customers VALUES (1, 'a@example.com', 'Ann'), (2, 'other@example.com', 'Bob')}, 'a@example.com', 1);
change(q{INSERT INTO customers VALUES (3, 'a@example.com', 'Cid')}, 'a@example.com', 3);
my $since = last_seq();
hold('other@example.com');
change(q{UPDATE customers SET name = 'Bulk' WHERE id IN (1, 2)}, 'a@example.com', 1);
wait_for_call('other@example.com', $since);
change(q{UPDATE customers SET name = 'Cid2' WHERE id = 3}, 'a@example.com', 3);
is(sql(q{SELECT string_agg(key, ',' ORDER BY key) FROM contactsync.changes}), '1,2', 'the bulk change is queued still');
crash();
deliver();
is(said('a@example.com', $since), 'Bulk, Cid2', 'it does not speak again after a crash');
is(at_provider('a@example.com'), 'Cid2 SUBSCRIBED', 'the other row has the last word');

# nor does its no, since the person has consented after it
$since = last_seq();
hold('other@example.com');
change(q{UPDATE customers SET consent = false WHERE id IN (1, 2)}, 'a@example.com', 1);
wait_for_call('other@example.com', $since);
sql(q{UPDATE customers SET consent = false WHERE id = 3});
$node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM contactsync.changes}) or die 'timed out waiting for the second no';
change(q{UPDATE customers SET consent = true, name = 'Cid3' WHERE id = 3}, 'a@example.com', 3);
crash();
deliver();
is(at_provider('a@example.com'), 'Cid3 SUBSCRIBED', 'a no of before the last word does not withdraw that');
is(said('a@example.com', $since) =~ s/.*Cid3//r, '', 'and is not sent again');

# a row that spoke without an answer before the crash, and returned to what it said before, does
change(q{UPDATE customers SET name = 'Ann', consent = true WHERE id = 1}, 'a@example.com', 1);
change(q{UPDATE customers SET name = 'Cid4' WHERE id = 3}, 'a@example.com', 3);
$since = last_seq();
hold('a@example.com', effect => 'after');
sql(q{UPDATE customers SET name = 'Lost' WHERE id = 1});
wait_for_call('a@example.com', $since);
sql(q{UPDATE customers SET name = 'Ann' WHERE id = 1});
crash();
deliver();
is(at_provider('a@example.com'), 'Ann SUBSCRIBED', 'a value without an answer does not stay, although the row has its earlier one');

# a row that failed has spoken before the other one as well
change(q{INSERT INTO customers VALUES (4, 'd@example.com', 'Dan'), (5, 'more@example.com', 'Eve')}, 'd@example.com', 4);
change(q{INSERT INTO customers VALUES (6, 'd@example.com', 'Fay')}, 'd@example.com', 6);
$since = last_seq();
$sandbox->fault('campaignlark', { match => { email => 'd@example.com' }, action => { status => 422 } });
hold('more@example.com');
sql(q{UPDATE customers SET name = 'Bad' WHERE id IN (4, 5)});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM contactsync.failures WHERE key = '4'}) or die 'timed out waiting for the failure';
wait_for_call('more@example.com', $since);
change(q{UPDATE customers SET name = 'Fay2' WHERE id = 6}, 'd@example.com', 6);
sql(q{UPDATE customers SET name = 'Fay3' WHERE id = 6});
$node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM contactsync.changes}) or die 'timed out waiting for the last word';
crash();
deliver();
is(said('d@example.com', $since) =~ s/^Bad, //r, 'Fay2, Fay3', 'a row that failed does not speak again after a crash');
is(at_provider('d@example.com'), 'Fay3 SUBSCRIBED', 'the other row has the last word there, too');

# Of two rows that say the same, the one that speaks changes, so does the other one, and then the first one once more. That is read
# first, with its last values, and has its outcome when the worker is killed; the other one has none, and many are between them.
sql(q{ALTER SERVER campaignlark OPTIONS (ADD concurrency '1')});
foreach my $together (0, 1)
{
	my ($email, $id) = ("twins$together\@example.com", 10 + 1000 * $together);
	my ($first, $last) = ($id + 1, $id + 501);

	change(qq{INSERT INTO customers SELECT g, CASE WHEN g IN ($first, $last) THEN '$email' ELSE format('filler%s\@example.com', g) END, 'Hal' FROM generate_series($first, $last) g}, $email, $first);
	deliver();
	$since = last_seq();
	my $begin = sql(q{SELECT clock_timestamp()});
	hold(sprintf 'filler%d@example.com', $first + 1);
	sql($_) foreach q{SELECT contactsync_pause('campaignlark')},
	  $together ? qq{UPDATE customers SET name = 'Both' WHERE id BETWEEN $first AND $last} :
	  map({ "UPDATE customers SET name = $_" } qq{'Hal2' WHERE id = $first}, qq{'Bulk' WHERE id BETWEEN $first + 1 AND $last - 1}, qq{'Gus2' WHERE id = $last}),
	  qq{UPDATE customers SET name = 'Hal3' WHERE id = $first}, q{SELECT contactsync_resume('campaignlark')};
	$node->poll_query_until('postgres', qq{SELECT synced_at > '$begin' FROM contactsync.contact WHERE upsert_key = '$email'}) or die 'timed out waiting for the outcome';
	crash();
	deliver();
	is(at_provider($email), 'Hal3 SUBSCRIBED', 'the row that changed last speaks, although the other one is queued still' . ($together ? ', with what both said before' : ''));
}

# A transaction that began first commits last. The queue is read in the order in which transactions began.
foreach my $restart (1, 0)
{
	my ($id, $email) = (5001 + 10 * $restart, "late$restart\@example.com");
	my $next = $id + 1;

	change(qq{INSERT INTO customers VALUES ($id, '$email', 'Ida')}, $email, $id);
	change(qq{INSERT INTO customers VALUES ($next, '$email', 'Joe')}, $email, $next);
	sql($_) foreach q{SELECT contactsync_pause('campaignlark')}, qq{UPDATE customers SET name = 'Joe2' WHERE id = $next};
	my $session = $node->background_psql('postgres', on_error_stop => 1);
	$session->query_safe('BEGIN; SELECT pg_current_xact_id()');
	sql(qq{UPDATE customers SET name = 'Both$_' WHERE id IN ($id, $next)}) foreach 1, 2;
	$session->query_safe(qq{UPDATE customers SET name = 'Last' WHERE id = $id; COMMIT});
	$session->quit;
	crash() if $restart;
	sql(q{SELECT contactsync_resume('campaignlark')});
	deliver();
	is(at_provider($email), 'Last SUBSCRIBED', 'the row speaks that was committed last, though its transaction began before the others' . ($restart ? ', and the worker was started since' : ''));
}

$node->stop;
done_testing();
