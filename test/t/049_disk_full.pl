# When the disk is full, or all connections are taken, delivery waits or goes on; nothing is lost, and nobody's change fails that has room.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('autovacuum' => 'off', 'max_connections' => 10);

sub sql { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'shop' ]); }
sub contacts { return $sandbox->count('mailingcore', account => 'people')->{contacts}; }

$node->safe_psql('postgres', 'CREATE EXTENSION contactsync; CREATE ROLE shop LOGIN; GRANT ALL ON SCHEMA public TO shop');
create_server($node, $sandbox, 'mailingcore', account => 'people', role => 'shop', server => { pace => 1000, burst => 1000 });
sql(q{
	CREATE TABLE customers (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('customers', 'people', '{"email": "email", "external_id": "id"}', claims => 'all');
	CALL contactsync_wait('people')});
$node->stop;
my $disk = ContactSync::Disk->new($node);
$disk->start;

# the answers arrive, but there is no room for the outcomes
$sandbox->fault('mailingcore', { match => { account => 'people' }, times => undef, action => { stall => \1 } });
sql(q{INSERT INTO customers SELECT n, n || '@example.com' FROM generate_series(1, 3000) n});
$sandbox->wait_for_journal('mailingcore', sub { grep { $_->{in_flight} } @_ }, account => 'people');
$disk->fill;
$sandbox->clear_faults('mailingcore', account => 'people');
$node->wait_for_log(qr/WARNING:  contactsync waits: could not extend file .*No space left on device/);
$node->poll_query_until('postgres', q{SELECT query LIKE 'contactsync: waiting: could not extend file%' FROM pg_stat_activity WHERE backend_type = 'contactsync worker'})
  or die 'timed out waiting for the activity';
pass('the log and the activity say what is missing');
my (undef, undef, $stderr) = $node->psql('postgres', q{INSERT INTO customers SELECT n, n || '@example.com' FROM generate_series(10001, 20000) n}, extra_params => [ '-U', 'shop' ]);
like($stderr, qr/No space left on device/, 'the disk is full');
is(sql('SELECT failures FROM contactsync.status'), '0', 'no contact fails');
$disk->make_room;
sql('CALL contactsync_wait(NULL)');
is(contacts(), 3000, 'when there is room again, all contacts arrive');
is($node->safe_psql('postgres', 'SELECT count(*) FROM contactsync.contact WHERE digest IS NOT NULL'), '3000', 'and all outcomes are stored');
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
