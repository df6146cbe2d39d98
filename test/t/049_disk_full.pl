# When the disk is full, or all connections are taken, delivery waits or goes on; nothing is lost, and nobody's change fails that has room.

use strict;
use warnings;

use ContactSync;
use Cwd 'realpath';
use File::Basename;
use Test::More;

my $tool = realpath(dirname(__FILE__)) . '/../disk/forgetful.py';
my $sandbox = start_sandbox();
my $node = start_node('autovacuum' => 'off', 'max_connections' => 10);
my $shadow = $node->basedir . '/shadow';
my %disk = (LD_PRELOAD => $node->basedir . '/forgetful.so', FORGETFUL_DATA => realpath($node->data_dir), FORGETFUL_SHADOW => $shadow);

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub contacts { return $sandbox->count('mailingcore', account => 'people')->{contacts}; }

create_server($node, $sandbox, 'mailingcore', account => 'people', server => { pace => 1000, burst => 1000 });
sql(q{
	CREATE TABLE customers (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('customers', 'people', '{"email": "email", "external_id": "id"}', claims => 'all');
	CALL contactsync_wait('people')});
$node->stop;
PostgreSQL::Test::Utils::system_or_bail('/usr/bin/python3', $tool, 'build', $disk{LD_PRELOAD});
PostgreSQL::Test::Utils::system_or_bail('/usr/bin/python3', $tool, 'format', $node->data_dir, $shadow);
{
	local @ENV{ keys %disk } = values %disk;
	$node->start;
}

# the answers arrive, but there is no room for the outcomes
$sandbox->fault('mailingcore', { match => { account => 'people' }, times => undef, action => { stall => \1 } });
sql(q{INSERT INTO customers SELECT n, n || '@example.com' FROM generate_series(1, 3000) n});
$sandbox->wait_for_journal('mailingcore', sub { grep { $_->{in_flight} } @_ }, account => 'people');
PostgreSQL::Test::Utils::append_to_file("$shadow/full", '');
$sandbox->clear_faults('mailingcore', account => 'people');
$node->wait_for_log(qr/WARNING:  contactsync waits: could not extend file .*No space left on device/);
$node->poll_query_until('postgres', q{SELECT query LIKE 'contactsync: waiting: could not extend file%' FROM pg_stat_activity WHERE backend_type = 'contactsync worker'})
  or die 'timed out waiting for the activity';
pass('the log and the activity say what is missing');
my (undef, undef, $stderr) = $node->psql('postgres', q{INSERT INTO customers SELECT n, n || '@example.com' FROM generate_series(10001, 20000) n});
like($stderr, qr/No space left on device/, 'the disk is full');
is(sql('SELECT failures FROM contactsync.status'), '0', 'no contact fails');
unlink("$shadow/full");
sql('CALL contactsync_wait(NULL)');
is(contacts(), 3000, 'when there is room again, all contacts arrive');
is(sql(q{SELECT count(*) FROM contactsync.contact WHERE digest IS NOT NULL}), '3000', 'and all outcomes are stored');
is(sql('SELECT failures FROM contactsync.status'), '0', 'without a failure');

# no connection is left
my @sessions = ($node->background_psql('postgres'));
$sessions[0]->query_safe('SELECT 1');
while (1)
{
	my $session = eval { $node->background_psql('postgres') } or last;
	push @sessions, $session;
}
($stderr) = ($node->psql('postgres', 'SELECT 1'))[2];
like($stderr, qr/too many clients/, 'all connections are taken');
$sessions[0]->query_safe(q{UPDATE customers SET email = 'last@example.com' WHERE id = 2});
wait_for('the change', sub { grep { $_->{email} eq 'last@example.com' } @{ $sandbox->contacts('mailingcore', account => 'people') } });
pass('the worker delivers without a connection');
$_->quit foreach @sessions;

$node->stop;
done_testing();
