# pg_upgrade creates another cluster: its servers are paused, because the old cluster may be started again.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $old = start_node(-name => 'old');
my $new = PostgreSQL::Test::Cluster->new('new');

create_server($old, $sandbox, 'mailingcore', account => 'crm');
$old->safe_psql(
	'postgres', q{
	CREATE TABLE customers (gone int, id int PRIMARY KEY, email text, plan text);
	ALTER TABLE customers DROP COLUMN gone;
	SELECT contactsync_watch('customers', 'crm', '{"email": "email", "external_id": "id", "attributes": {"plan": "plan"}}');
	INSERT INTO customers SELECT g, format('c%s@example.com', g), 'A' FROM generate_series(1, 9) g;
	CALL contactsync_wait('crm');
	SELECT contactsync_pause('crm');
	UPDATE customers SET plan = 'B' WHERE id < 3});
$old->stop;
$new->init(extra => [ '--encoding=UTF8', '--no-locale', '--username=postgres' ]);
$new->append_conf('postgresql.conf', "shared_preload_libraries = 'contactsync'\ncontactsync.launcher_naptime = '1s'\n");
chdir PostgreSQL::Test::Utils::tempdir();
my $bindir = $old->config_data('--bindir');
PostgreSQL::Test::Utils::command_ok(
	[   "$bindir/pg_upgrade", '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $bindir, '-B', $bindir,
		'-s', $new->host, '-p', $old->port, '-P', $new->port ],
	'pg_upgrade');
my $requests = $sandbox->count('mailingcore')->{requests};

$new->start;
$new->wait_for_log(qr/WARNING:  contactsync sends nothing to server "crm": this database was restored or copied/);
is($new->safe_psql('postgres', q{SELECT state, backlog, synced FROM contactsync.status WHERE source IS NOT NULL}), 'paused|2|9', 'all data is there, and the server is paused');
$new->safe_psql('postgres', q{UPDATE customers SET plan = 'C' WHERE id = 3});
is($sandbox->count('mailingcore')->{requests}, $requests, 'nothing is sent before contactsync_resume()');
$new->safe_psql('postgres', q{SELECT contactsync_resume('crm'); CALL contactsync_wait('crm')});
is( join(' ', sort grep { !/@/ } map { @{ $_->{keys} // [] } } @{ $sandbox->journal('mailingcore') }[ $requests .. $requests + 1 ]),
	'1 2 3', 'contactsync_resume() sends the queued changes');

$new->stop;
done_testing();
