# Tables of Citus: what is asked of them is what its planner accepts, and triggers on them are refused. Citus itself is not here: its
# catalog is imitated, and the statements and plans are looked at in the log. docs/growth.md says which it refuses.

use strict;
use warnings;

use ContactSync;
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('shared_preload_libraries' => 'contactsync,auto_explain', 'auto_explain.log_min_duration' => 0, 'auto_explain.log_nested_statements' => 'on');

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub fails { my (undef, undef, $stderr) = $node->psql('postgres', $_[0]); return $stderr; }

# Return the plans, with their statements, that the log has of a table.
sub plans
{
	my ($table, $from) = @_;

	return grep { /Query Text: .*\b$table AS $table\b/s } split /(?=^\d{4}-\d\d-\d\d )/m, substr(slurp_file($node->logfile), $from);
}

create_server($node, $sandbox, 'mailingcore', account => 'crm');
sql(q{
	SET allow_system_table_mods = on;
	CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass PRIMARY KEY, partmethod "char", repmodel "char");
	RESET allow_system_table_mods;
	CREATE TABLE shop (id int PRIMARY KEY, email text, name text, changed_at timestamptz DEFAULT now());
	CREATE TABLE plain (LIKE shop INCLUDING ALL);
	INSERT INTO pg_dist_partition VALUES ('shop', 'h', 's')});
my $mapping = q{'{"email": "email", "external_id": "id", "attributes": {"name": "upper(name)"}}'};

# triggers
my $error = fails("SELECT contactsync_watch('shop', 'crm', $mapping)");
like($error, qr/ERROR:  table "shop" belongs to Citus, so its triggers do not tell of its changes/, 'triggers on a table of Citus are refused');
like($error, qr/HINT:  Use capture => 'poll' with poll_column => '...', a column that every change sets to now\(\)\./, 'with what to do instead');

# poll
sql("SELECT contactsync_watch('shop', 'crm', $mapping, capture => 'poll', poll_column => 'changed_at', poll_every => '1 s')");
sql("SELECT contactsync_watch('plain', 'crm', '{\"email\": \"email\", \"external_id\": \"-id\"}', capture => 'poll', poll_column => 'changed_at', poll_every => '1 s')");
sql(q{INSERT INTO shop SELECT n, format('c%s@example.com', n), 'n' FROM generate_series(1, 3000) n; INSERT INTO plain SELECT n, format('p%s@example.com', n), 'n' FROM generate_series(1, 3000) n; ANALYZE});
my $from = -s $node->logfile;
sub contacts { return scalar @{ $sandbox->contacts('mailingcore', account => 'crm') }; }
sql(q{SELECT contactsync_import('shop', 'crm'); SELECT contactsync_import('plain', 'crm'); CALL contactsync_wait('crm')});
is(contacts(), 6000, 'an import sends all rows');
sql(q{UPDATE shop SET name = 'm', changed_at = now() WHERE id <= 10});
$node->poll_query_until('postgres', q{SELECT synced >= 3010 FROM contactsync.status WHERE source = 'shop'::regclass}) or die;
pass('a poll sends what changed');
sql(q{SELECT contactsync_reconcile('shop', 'crm'); CALL contactsync_wait('crm')});
is(sql(q{SELECT count(*) FROM contactsync.failures}), '0', 'a reconciliation goes through');

my @shop = plans('shop', $from);
my @plain = plans('plain', $from);
my @reads = grep { /LATERAL/ } @shop;
cmp_ok(scalar @reads, '>=', 2, 'rows are read by their keys');
cmp_ok(scalar(grep { /LATERAL/ && /OFFSET 0\)/ } @plain), '>=', 1, 'of other tables in a subquery that stays by itself');
is(scalar(grep { /OFFSET 0\)/ } @reads), 0, 'of a table of Citus in none');
is(scalar(grep { /SELECT FROM/ } @shop), 0, 'nothing is asked for without columns');
cmp_ok(scalar(grep { /SELECT 1 FROM/ } @shop), '>=', 1, '... not even to count rows');
# a generic plan has the parameters, a custom plan their values
my $generic = qr/^\t *(?:Index Cond|Filter): .*\$\d/m;
cmp_ok(scalar(grep { /$generic/ } @plain), '>=', 1, 'plans of other tables are generic');
is(scalar(grep { /$generic/ } @shop), 0, 'those of a table of Citus are not');

# a table that becomes one under its watch
sql(q{CREATE TABLE local (LIKE shop INCLUDING ALL); SELECT contactsync_watch('local', 'crm', '{"email": "email", "external_id": "id + 100000"}')});
sql(q{INSERT INTO local VALUES (1, 'local@example.com'); CALL contactsync_wait('crm')});
is(contacts(), 6001, 'a table that is watched by triggers');
# Citus creates a trigger of its own, among other things, and with that everybody looks at the table again
sql(q{INSERT INTO pg_dist_partition VALUES ('local', 'n', 's'); ALTER TABLE local SET (fillfactor = 99)});
$node->poll_query_until('postgres', q{SELECT bool_or(state = 'broken' AND reason LIKE '%"local" belongs to Citus%') FROM contactsync.status WHERE source = 'local'::regclass})
  or diag sql('SELECT source, state, reason FROM contactsync.status');
is(sql(q{SELECT state FROM contactsync.status WHERE source = 'local'::regclass}), 'broken', 'says so in status when it becomes one of Citus');
sql(q{DELETE FROM pg_dist_partition WHERE logicalrelid = 'local'::regclass; ALTER TABLE local SET (fillfactor = 98)});
sql(q{INSERT INTO local VALUES (2, 'other@example.com')});
$node->poll_query_until('postgres', q{SELECT state IN ('running', 'idle', 'ok') FROM contactsync.status WHERE source = 'local'::regclass}) or diag sql('SELECT source, state, reason FROM contactsync.status');
sql(q{CALL contactsync_wait('crm')});
is(contacts(), 6002, 'and goes on if it is none any more');

done_testing();
