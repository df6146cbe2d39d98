# Contacts are found wherever they are in the index: more than one of its pages holds, side by side or scattered, there or not,
# with the versions that earlier changes have left.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();
my $all = 1500;

sub sql { return $node->safe_psql('postgres', $_[0]); }

# a worker that ends with an error begins again, so it is not waited for
sub errors { return PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /(ERROR|PANIC):/; }

sub delivered
{
	wait_for('delivery, or an error', sub { errors() || sql('SELECT backlog = 0 FROM contactsync.status') eq 't' });
	die 'an error ended the worker' if errors();
	sql(q{CALL contactsync_wait('mail')});
	return sql(q{SELECT synced || ' ' || unchanged || ' ' || failures FROM contactsync.status});
}

create_server($node, $sandbox, 'mailingcore', account => 'mail', server => { pace => 10000, burst => 10000, batch_size => 100 });
sql(q{CREATE TABLE people (id text PRIMARY KEY, email text NOT NULL, name text);
	SELECT contactsync_watch('people', 'mail', mapping => '{"email": "email", "external_id": "id", "first_name": "name"}')});

# the even ones, in an order that is not that of any index
sub insert { return "INSERT INTO people SELECT md5(n::text), md5('a' || n) || '\@example.com', 'first' FROM generate_series(1, $all) n WHERE n % 2 = $_[0] ORDER BY md5('b' || n)"; }
sql(insert(0));
is(delivered(), $all / 2 . ' 0 0', 'contacts are new');

# of each three in a row, one is there
sql(insert(1));
is(delivered(), "$all 0 0", 'those between them are new');

# each contact is changed, in the order of its address, then in that of its key, then a few here and there
my $synced = $all;
foreach my $order (qw(email id), "md5('c' || id)")
{
	my $where = $order =~ /md5/ ? "WHERE md5('d' || id) < '2'" : '';
	my $changed = sql("WITH p AS (SELECT id FROM people $where ORDER BY $order), u AS (UPDATE people SET name = name || '.' FROM p WHERE p.id = people.id RETURNING 1) SELECT count(*) FROM u");
	$synced += $changed;
	is(delivered(), "$synced 0 0", "$changed contacts are changed, by $order");
}

sql('UPDATE people SET name = name || 1; UPDATE people SET name = left(name, -1)');
my ($again) = delivered() =~ /^\d+ (\d+) 0$/;
cmp_ok($again // 0, '>', 0, 'what has not changed is found to be the same');
sql(q{SELECT contactsync_reconcile('people', 'mail')});
like(delivered(), qr/ 0$/, 'a reconciliation finds all');
is(sql('SELECT count(*), count(DISTINCT upsert_key) FROM contactsync.contact'), "$all|$all", 'each contact is stored once');
is(sql('SELECT count(*), count(DISTINCT key) FROM contactsync.source_row'), "$all|$all", 'and each row');
is(scalar @{ $sandbox->contacts('mailingcore', account => 'mail') }, $all, 'the provider has them');
ok(!errors(), 'without an error');

$node->stop;
done_testing();
