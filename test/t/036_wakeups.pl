# A commit wakes the worker only if something can be sent to the server that it concerns, and no change is overlooked.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

sub sql { return $node->safe_psql('postgres', $_[0]); }

# Commit that many changes, one after the other, and so slowly that the worker could take each.
sub change
{
	my ($table, $n) = @_;

	sql(qq{DO \$\$ BEGIN FOR n IN 1 .. $n LOOP UPDATE $table SET email = n || '\@$table.example'; COMMIT; PERFORM pg_sleep(0.01); END LOOP; END \$\$});
	return;
}

# How often the worker has waited.
sub waits
{
	my $pid = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'});

	open my $status, '<', "/proc/$pid/status" or die "/proc/$pid/status: $!";
	my ($waits) = map { /^voluntary_ctxt_switches:\s+(\d+)/ ? $1 : () } <$status>;
	close $status;
	return $waits;
}

watch_customers($node, $sandbox, 'mailingcore', 'slow', pace => '0.1', burst => 1);
watch_customers($node, $sandbox, 'mailingcore', 'idle');
insert_customers($node, $_, 1, 1) foreach qw(slow idle);
$sandbox->wait_for_contacts('mailingcore', 1, account => $_) foreach qw(slow idle);

# the server slow has made its call, and allows none for 10 s; the other one is idle
$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM contactsync.queue}) or die 'timed out waiting for outcomes';
change('slow', 1);
my $before = waits();
change('slow', 200);
cmp_ok(waits() - $before, '<', 100, '200 commits for a server that allows no call do not wake the worker each');

change('idle', 1);
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM contactsync.contacts WHERE upsert_key = '1@idle.example'})
  or die 'timed out waiting for the idle server';
pass('a change for the idle server is sent meanwhile');

sql(q{ALTER SERVER slow OPTIONS (SET pace '10')});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM contactsync.contacts WHERE upsert_key = '200@slow.example'})
  or die 'timed out waiting for the slow server';
pass('the changes are sent as soon as a call is allowed');

# and by themselves when the time has come
sql(q{ALTER SERVER slow OPTIONS (SET pace '0.5')});
change('slow', 1);
change('slow', 2);
sql(q{UPDATE slow SET email = '400@slow.example'});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM contactsync.contacts WHERE upsert_key = '400@slow.example'})
  or die 'timed out waiting for the pace';
pass('the worker comes back to a server whose time has come');

# what is done to a paused server waits for its resumption
sql(q{SELECT contactsync_pause('slow')});
sql(q{UPDATE slow SET email = '401@slow.example'});
sql(q{UPDATE idle SET email = '402@idle.example'});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM contactsync.contacts WHERE upsert_key = '402@idle.example'})
  or die 'timed out waiting beside a paused server';
sql(q{SELECT contactsync_resume('slow')});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM contactsync.contacts WHERE upsert_key = '401@slow.example'})
  or die 'timed out waiting for the resumed server';
pass('nothing is overlooked beside a paused server');

$node->stop;
done_testing();
