# Outcomes of locked rows are stored when the lock is released; other watches do not wait for it.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

create_server($node, $sandbox, 'mailingcore', server => { pace => 1000, burst => 1000 });
$node->safe_psql(
	'postgres', q{
	CREATE TABLE a (id int PRIMARY KEY, email text);
	CREATE TABLE b (id int PRIMARY KEY, email text);
	SELECT contactsync_watch(t, 'mailingcore', '{"email": "email"}') FROM unnest(ARRAY['a', 'b']::regclass[]) t;
	INSERT INTO a VALUES (1, 'a@example.com');
	INSERT INTO b VALUES (1, 'b@example.com');
	CALL contactsync_wait('mailingcore')});
my $pid = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'});

# a transaction that drops the watch while a call for it is in flight
sub lock_while_in_flight
{
	my ($email) = @_;

	$sandbox->fault('mailingcore', { match => { email => $email }, action => { stall => \1 } });
	$node->safe_psql('postgres', "UPDATE a SET email = '$email'");
	$sandbox->wait_for_journal('mailingcore', sub { $_[-1]{in_flight} && $_[-1]{body} =~ /\Q$email\E/ });
	my $session = $node->background_psql('postgres');
	$session->query_safe(q{BEGIN; SELECT contactsync_unwatch('a', 'mailingcore')});
	$sandbox->clear_faults('mailingcore');
	return $session;
}

sub requests { return $sandbox->count('mailingcore')->{requests}; }

my $session = lock_while_in_flight('a1@example.com');
my $synced = $node->safe_psql('postgres', q{SELECT synced FROM contactsync.status WHERE source = 'b'::regclass});
foreach my $n (1 .. 3)
{
	$node->safe_psql('postgres', "UPDATE b SET email = 'b$n\@example.com'");
	$node->poll_query_until('postgres', qq{SELECT synced = $synced + $n AND backlog = 0 FROM contactsync.status WHERE source = 'b'::regclass})
	  or die 'timed out waiting for the other watch';
}
pass('outcomes of another watch are stored');
is($node->safe_psql('postgres', q{SELECT backlog FROM contactsync.status WHERE source = 'a'::regclass}), '1', 'the outcome of the locked watch is not stored');
my $before = requests();
$session->query_safe('ROLLBACK');
$node->safe_psql('postgres', q{CALL contactsync_wait('mailingcore')});
is(requests(), $before, 'the outcome is stored when the lock is released, without another call');
is($node->safe_psql('postgres', q{SELECT synced FROM contactsync.status WHERE source = 'a'::regclass}), '2', 'the contact is counted once');
$node->safe_psql('postgres', q{UPDATE a SET email = 'a2@example.com'; CALL contactsync_wait('mailingcore')});
is(requests(), $before + 1, 'the watch continues');

$session->quit;
$session = lock_while_in_flight('a3@example.com');
$node->safe_psql('postgres', q{UPDATE b SET email = 'b4@example.com'});
$sandbox->wait_for_journal('mailingcore', sub { $_[-1]{body} =~ /b4/ });
$session->query_safe('COMMIT');
$session->quit;
$node->safe_psql('postgres', q{UPDATE b SET email = 'b5@example.com'; CALL contactsync_wait('mailingcore')});
is($node->safe_psql('postgres', q{SELECT string_agg(source::text, ',') FROM contactsync.status}), 'b', 'a dropped watch disappears from status');
is($node->safe_psql('postgres', 'SELECT count(*) FROM contactsync.source_row'), '1', 'no rows of it remain');
is($node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'}), $pid, 'the worker was not restarted');

# a transaction that drops the extension while a call is in flight
$sandbox->fault('mailingcore', { match => { email => 'b6@example.com' }, action => { stall => \1 } });
$node->safe_psql('postgres', q{UPDATE b SET email = 'b6@example.com'});
$sandbox->wait_for_journal('mailingcore', sub { $_[-1]{in_flight} && $_[-1]{body} =~ /b6/ });
$session = $node->background_psql('postgres');
$session->query_safe('BEGIN; SET LOCAL client_min_messages = warning; DROP EXTENSION contactsync CASCADE');
$sandbox->clear_faults('mailingcore');
$node->poll_query_until('postgres', qq{SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid})
  or die 'timed out waiting for the worker to wait';
is($node->safe_psql('postgres', qq{SELECT backend_xmin IS NULL FROM pg_stat_activity WHERE pid = $pid}), 't', 'the worker waits without a snapshot');
$session->query_safe('COMMIT');
$session->quit;
$node->poll_query_until('postgres', qq{SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid})
  or die 'timed out waiting for the worker to exit';

$node->stop;
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/ERROR/, 'the worker exits without an error');
done_testing();
