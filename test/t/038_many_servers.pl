# Many servers have a backlog at once: the worker's memory does not grow with their number, all is delivered, the bulk guard of
# one that has to wait for room sees what it has to see, and memory is given back when nothing is to be sent.

use strict;
use warnings;

use ContactSync;
use PostgreSQL::Test::Utils;
use Test::More;

my $servers = 16;
my $rows = 20_000;
my $sandbox = start_sandbox(fast => 1);
my $node = start_node('shared_buffers' => '64MB');

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub create
{
	my ($name, $provider, $key, $options) = @_;

	sql(qq{
		CREATE SERVER $name FOREIGN DATA WRAPPER contactsync OPTIONS (provider '$provider', base_url '@{[$sandbox->url]}',
			pace '1000', burst '1000', $options);
		CREATE USER MAPPING FOR CURRENT_USER SERVER $name OPTIONS (api_key '$key');
		CREATE TABLE $name (id int PRIMARY KEY, email text);
		SELECT contactsync_watch('$name', '$name', '{"email": "email"}')});
	return;
}

sub insert
{
	my ($name, $n) = @_;

	return "INSERT INTO $name SELECT g, format('c%s\@example.com', g) FROM generate_series(1, $n) g";
}

# Anonymous memory of the worker in MB; undef if that cannot be told
sub memory
{
	my $status = '/proc/' . sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'}) . '/status';

	return unless -r $status;
	return slurp_file($status) =~ /^RssAnon:\s+(\d+) kB/m ? $1 / 1024 : undef;
}

sql('CREATE EXTENSION contactsync');
create("s$_", 'mailingcore', 'mc_test_x', "tenant_id 's$_'") foreach 1 .. $servers;
# so many that the least share of it has no room for them
create('guarded', 'owlat', 'lm_live_x', q{bulk_guard '8000'});
sql(join(';', 'BEGIN', map({ insert("s$_", $rows) } 1 .. $servers), insert('guarded', 8500), 'COMMIT'));

my $most = 0;
wait_for(
	'all to be delivered',
	sub
	{
		my $now = memory() // 0;
		$most = $now if $now > $most;
		return sql(q{SELECT count(*) = 0 FROM contactsync.queue q JOIN contactsync.endpoint e ON e.id = q.endpoint WHERE e.server <> 'guarded'}) eq 't';
	});
is(sql(q{SELECT sum(synced) FROM contactsync.status}), $servers * $rows, 'everything is delivered');
is(sql(q{SELECT state, backlog FROM contactsync.status WHERE server = 'guarded'}), 'guarded|8500', 'the bulk guard holds what is too much');

SKIP:
{
	skip 'the memory of a process cannot be told here', 2 unless $most;
	skip 'the tool that checks the memory takes some', 2
	  if slurp_file('/proc/' . sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'}) . '/maps') =~ /asan|valgrind/;
	note("the worker took at most $most MB");
	cmp_ok($most, '<', 160, 'the memory of the worker is bounded, whatever the number of servers');
	wait_for('memory to be given back', sub { memory() < 60 });
	pass('memory is given back when nothing is to be sent');
}

$node->stop;
done_testing();
