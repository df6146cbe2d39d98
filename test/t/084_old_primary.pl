# An old primary that comes back beside the promoted one: as its standby, or rewound to it, it sends nothing. What keeps it from
# sending if it is started as a primary, and what does not.

use strict;
use warnings;

use ContactSync;
use File::Copy;
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = start_sandbox();
my $old = start_node(-name => 'old', -allows_streaming => 1, 'wal_log_hints' => 'on');

sub requests { return $sandbox->count('mailingcore')->{requests}; }

# Return the values of the contacts at the provider, each once.
sub plans
{
	my %plan = map { $_->{attributes}{plan} => 1 } @{ $sandbox->contacts('mailingcore', account => 'crm') };

	return join(',', sort keys %plan);
}

sub set_plan
{
	my ($node, $plan) = @_;

	$node->safe_psql('postgres', qq{UPDATE customers SET plan = '$plan'; CALL contactsync_wait('crm')});
	return;
}

sub sends_nothing
{
	my ($node, $title, $before) = @_;

	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'contactsync%'}), '0', "$title has neither launcher nor worker");
	is($node->safe_psql('postgres', 'SELECT DISTINCT worker FROM contactsync.status'), 'none on a standby', "$title says so in status");
	is(requests(), $before, "$title sends nothing");
	return;
}

create_server($old, $sandbox, 'mailingcore', account => 'crm');
$old->safe_psql(
	'postgres', q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, plan text);
	SELECT contactsync_watch('customers', 'crm', '{"email": "email", "attributes": {"plan": "plan"}}');
	INSERT INTO customers SELECT g, format('c%s@example.com', g), 'first' FROM generate_series(1, 30) g;
	CALL contactsync_wait('crm');
});
$old->backup('base');
my $new = start_standby($old, 'new');
$new->stop;

# what the old primary commits now is not replicated; it has calls under way when it ends
$sandbox->fault('mailingcore', { times => undef, effect => 'after', action => { stall => \1 } });
$old->safe_psql('postgres', q{UPDATE customers SET plan = 'lost'});
$sandbox->wait_for_journal('mailingcore', sub { $_[-1]{in_flight} });
$old->safe_psql('postgres', q{UPDATE customers SET plan = 'queued'});
$old->stop('immediate');
$sandbox->clear_faults('mailingcore');
$new->start;
$new->promote;
set_plan($new, 'second');
is(plans(), 'second', 'the promoted standby delivers');

# It has what the new primary never had, and a backlog of that.
my $before = requests();
$old->enable_streaming($new);
$old->start;
$old->wait_for_log(qr/forked off current database system timeline 1 before current recovery point|not in this server's history/);
is($old->safe_psql('postgres', 'SELECT backlog > 0 FROM contactsync.status'), 't', 'an old primary has a backlog when it comes back');
sends_nothing($old, 'an old primary that is a standby, but cannot follow,', $before);
$old->stop;

# pg_rewind recovers it in single-user mode first, and copies the settings of the source
copy($old->data_dir . '/postgresql.conf', $old->basedir . '/postgresql.conf') or die $!;
command_ok([ 'pg_rewind', '--target-pgdata', $old->data_dir, '--source-server', $new->connstr('postgres') ], 'pg_rewind');
copy($old->basedir . '/postgresql.conf', $old->data_dir . '/postgresql.conf') or die $!;
is(requests(), $before, 'pg_rewind sends nothing');
$old->enable_streaming($new);
$old->start;
$new->wait_for_catchup($old);
is($old->safe_psql('postgres', q{SELECT DISTINCT plan FROM customers}), 'second', 'it has the rows of the new primary');
sends_nothing($old, 'an old primary that was rewound', $before);
set_plan($new, 'third');
is(plans(), 'third', 'the new one goes on');

# The way back: each continues where the other was.
$new->wait_for_catchup($old);
$new->stop;
$old->promote;
set_plan($old, 'fourth');
is(plans(), 'fourth', 'after a switch back, the first one delivers');
like(slurp_file($old->logfile), qr/WARNING:  contactsync may not know all that was sent to server "crm", .*\(timeline 3, before: 2\)/, 'it says what it may not know');
$new->enable_streaming($old);
$new->start;
$old->wait_for_catchup($new);
$before = requests();
sends_nothing($new, 'the other one', $before);

# Started as a primary it does not know of the new one. If it replicates synchronously, and was stopped in order, it cannot
# store that calls may be under way before its standby has that, too: so it sends nothing.
$old->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = 'new'});
$old->reload;
$old->poll_query_until('postgres', q{SELECT sync_state = 'sync' FROM pg_stat_replication}) or die 'timed out waiting for synchronous replication';
set_plan($old, 'fifth');
is(plans(), 'fifth', 'with synchronous replication it delivers');
$old->poll_query_until('postgres', q{SELECT NOT bool_or(busy) FROM contactsync.endpoint}) or die 'timed out waiting until no call is under way';
$old->stop;
$new->promote;
set_plan($new, 'sixth');
$before = requests();
$old->start;
$old->safe_psql('postgres', q{SET synchronous_commit = local; UPDATE customers SET plan = 'stale'});
$old->poll_query_until('postgres', q{SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE backend_type = 'contactsync worker' AND datname = 'postgres'})
  or die 'timed out waiting for the worker to wait for its standby';
is(requests(), $before, 'an old primary whose synchronous standby was promoted waits for it, and sends nothing');
is(plans(), 'sixth', 'the provider keeps what the new one sent');

# Nothing else tells it. This is what reliability.md says is not caught.
$old->safe_psql('postgres', q{ALTER SYSTEM RESET synchronous_standby_names});
$old->reload;
$old->safe_psql('postgres', q{CALL contactsync_wait('crm')});
is(plans(), 'stale', 'not caught: an old primary that is started as one, with nothing to wait for, sends as well');

$old->stop;
$new->stop;
done_testing();
