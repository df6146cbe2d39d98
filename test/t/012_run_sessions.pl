# contactsync_run() takes nothing from the worker, nor from other roles: it delivers to the caller's endpoints, one at a time, and
# only where there is no worker.

use strict;
use warnings;

use ContactSync;
use IPC::Run;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();
sub sql { return $node->safe_psql('postgres', $_[0]); }

# Start a session of a role in the background.
sub start_session
{
	my ($role) = @_;
	my %session = (stdout => '', stderr => '');

	$session{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-U', $role, '-d', $node->connstr('postgres') . " application_name=$role", '-c', 'CALL contactsync_run()' ],
		'>', \$session{stdout}, '2>', \$session{stderr});
	return \%session;
}

sub arrives
{
	my ($account, $n, $what) = @_;

	$sandbox->wait_for_contacts('mailingcore', $n, account => $account);
	pass($what);
	return;
}

sub stall { $sandbox->fault('mailingcore', { match => { account => $_[0] }, times => undef, action => { stall => \1 } }); return; }

sql('CREATE ROLE good LOGIN; CREATE ROLE mallory LOGIN; GRANT CREATE ON SCHEMA public TO good, mallory');
create_server($node, $sandbox, 'mailingcore', account => 'first');
foreach my $role (qw(good mallory))
{
	create_server($node, $sandbox, 'mailingcore', account => $role, role => $role);
	sql(qq{
		SET SESSION AUTHORIZATION $role;
		CREATE TABLE $role (id int PRIMARY KEY, email text);
		SELECT contactsync_watch('$role', '$role', '{"external_id": "id", "email": "email"}')});
}

# where there is a worker, that delivers, and contactsync_run() waits for the caller's changes only
stall($_) foreach qw(good mallory);
sql(qq{INSERT INTO $_ VALUES (1, 'c1\@example.com')}) foreach qw(good mallory);
$sandbox->wait_for_journal('mailingcore', sub { 2 == grep { $_->{in_flight} } @_ });
my $session = start_session('good');
$node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'good' AND query LIKE 'CALL%')})
  or die 'timed out waiting for the session';
$sandbox->clear_faults('mailingcore', account => 'good');
$session->{run}->finish;
is($session->{stderr}, '', 'contactsync_run() leaves what is queued to the worker');
is($sandbox->count('mailingcore', account => 'good')->{contacts}, 1, 'and waits until it has arrived');
is($sandbox->count('mailingcore', account => 'good')->{requests}, 1, 'in the call of the worker');
is(sql(q{SELECT backlog FROM contactsync.status WHERE server = 'mallory'}), 1, 'whatever the server of another role does');

# where the worker has ended, the session delivers; the worker that is started leaves that endpoint alone, and no other
$session = start_session('mallory');
$node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'mallory' AND query LIKE 'CALL%')})
  or die 'timed out waiting for the session';
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'contactsync worker'});
my $reason = q{SELECT reason FROM contactsync.status WHERE server = 'mallory'};
$node->poll_query_until('postgres', qq{SELECT ($reason) LIKE 'contactsync_run() delivers, in the session with pid %'}) or die "timed out waiting for the session: $session->{stderr}";
is(sql($reason), 'contactsync_run() delivers, in the session with pid ' . sql(q{SELECT pid FROM pg_stat_activity WHERE application_name = 'mallory'}), 'status names the session');
sql(q{INSERT INTO good VALUES (2, 'c2@example.com')});
arrives('good', 2, 'a worker delivers for others, although a call of the session hangs');
$session->{run}->pump_nb;
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mallory'}), '1', 'the session still hangs');

# the hint ends it; then the worker delivers
my ($command) = sql(q{SELECT hint FROM contactsync.status WHERE server = 'mallory'}) =~ /(SELECT pg_cancel_backend\(\d+\));/ or die 'no command in the hint';
sql("SET SESSION AUTHORIZATION mallory; $command");
$session->{run}->finish;
like($session->{stderr}, qr/ERROR: +canceling statement due to user request/, 'the hint ends the session');
$sandbox->clear_faults('mailingcore', account => 'mallory');
arrives('mallory', 1, 'and the worker delivers');
is(sql(q{SELECT state, reason FROM contactsync.status WHERE server = 'good'}), 'idle|', 'nothing is left of it');

$node->stop;
done_testing();
