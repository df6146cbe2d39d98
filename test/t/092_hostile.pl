# Odd names, hostile values, and expressions that do more than read.

use strict;
use warnings;
use utf8;

use Encode qw(encode);
use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node(-encoding => 'UTF8', 'contactsync.clock_speed' => 50, 'contactsync.source_timeout' => '500ms');

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', encode('UTF-8', $sql)); }

sub arrived { my ($account) = @_; return $sandbox->contacts('mailingcore', account => $account); }

sub failures
{
	my ($server) = @_;

	return sql(qq{SELECT concat_ws('|', key, reason, field, message) FROM contactsync.failures WHERE server = } . quote_literal($server) . ' ORDER BY key');
}

my %unlimited = (pace => 1000, burst => 1000);
my $worker = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'};

# names that must be quoted everywhere, and keys that look like JSON
my $odd = q{se"rver's $1; %s \\};
my $table = q{"Odd; ""Schema"""."my ""Table's"" $1 %s"};

create_server($node, $sandbox, 'mailingcore', account => 'odd', server => \%unlimited);
sql(
	qq{
	ALTER SERVER odd RENAME TO "@{[$odd =~ s/"/""/gr]}";
	CREATE SCHEMA "Odd; ""Schema""";
	CREATE TABLE $table ("E Mail" text, "select" text, "Id's" int, "plan""" text, PRIMARY KEY ("select", "Id's"));
	SELECT contactsync_watch(@{[quote_literal($table)]}, @{[quote_literal($odd)]},
		'{"email": "\\"E Mail\\"", "external_id": "\\"select\\" || \\"Id''s\\"", "attributes": {"a \\"b\\"": "\\"plan\\"\\"\\""}}',
		filter => '"Id''s" > 0', on_delete => 'delete', delete_delay => '0');
	INSERT INTO $table VALUES
		('a\@example.com', '"], ["', 1, 'x'), ('b\@example.com', '', 2, '"'), ('c\@example.com', E'new\\nline\\ttab\\\\', 3, E'\\u2028😀'),
		('d\@example.com', 'null', 4, NULL), ('e\@example.com', 'ÄÖÜ€', 5, '''; DROP TABLE x; --'), ('f\@example.com', 'a/b?c#d%2F ', 6, '%n%s');
	UPDATE $table SET "plan""" = "plan""" || '!' WHERE "Id's" = 2;
	CALL contactsync_wait(@{[quote_literal($odd)]});
});
my $pid = sql($worker);

is(failures($odd), '', 'odd names and keys cause no failures');
is_deeply(
	{ map { $_->{externalId} => $_->{attributes}{'a "b"'} } @{ arrived('odd') } },
	{ '"], ["1' => 'x', '2' => '"!', "new\nline\ttab\\3" => "\x{2028}😀", 'null4' => undef, 'ÄÖÜ€5' => q{'; DROP TABLE x; --}, 'a/b?c#d%2F 6' => '%n%s' },
	'they arrive unchanged');
sql(qq{DELETE FROM $table WHERE "Id's" IN (1, 3, 6); CALL contactsync_wait(@{[quote_literal($odd)]})});
is(join(',', sort map { $_->{externalId} } @{ arrived('odd') }), '2,null4,ÄÖÜ€5', 'they can be deleted');
sql(qq{ALTER TABLE $table RENAME TO renamed; ALTER TABLE "Odd; ""Schema""".renamed SET SCHEMA public;
	UPDATE renamed SET "plan""" = 'moved'; CALL contactsync_wait(@{[quote_literal($odd)]})});
is(join(',', map { $_->{attributes}{'a "b"'} } @{ arrived('odd') }), 'moved,moved,moved', 'their table can be renamed');

# values of all types, too long, too deep, or with unusual contents
create_server($node, $sandbox, 'mailingcore', account => 'hostile', server => \%unlimited);
sql(
	q{
	CREATE TYPE mood AS ENUM ('so "so"');
	CREATE TABLE customers (id text PRIMARY KEY, email text, a text, b jsonb, c float8, d numeric, e timestamptz, f bytea, g mood, h int[], i xml);
	SELECT contactsync_watch('customers', 'hostile', '{"email": "email", "external_id": "id",
		"attributes": {"a": "a", "b": "b", "c": "c", "d": "d", "e": "e", "f": "f", "g": "g", "h": "h"}}');
	INSERT INTO customers VALUES ('1', 'n1@example.com', E'\x01\x1f\x7f"\\/', '{"a": {"": [1, null, "\\\\"]}}', 'NaN', 1e300, 'infinity', '\x00ff', 'so "so"', '{1,NULL}');
	INSERT INTO customers VALUES ('2', 'n2@example.com', repeat('x', 100000));
	INSERT INTO customers VALUES ('3', 'n3@example.com', NULL, (repeat('[', 1000) || repeat(']', 1000))::jsonb);
	INSERT INTO customers VALUES ('4', E'n4@example.com\r\nX-Evil: 1');
	INSERT INTO customers VALUES ('5', 'n5@example.com', '</script>', '"text"', 'Infinity', 'NaN', '-infinity');
	INSERT INTO customers VALUES (repeat('long', 50), 'n6@example.com');
	INSERT INTO customers VALUES ('7', 'n7@example.com', '{"email": "other@example.com"}');
	INSERT INTO customers VALUES ('8', repeat('x', 300) || '@example.com');
	CALL contactsync_wait('hostile');
});
my %contact = map { $_->{externalId} => $_ } @{ arrived('hostile') };
is(join(',', grep { $contact{$_} } 1, 5, 7), '1,5,7', 'valid contacts are sent');
is_deeply(
	$contact{1}{attributes},
	{ a => "\x01\x1f\x7f\"/", b => { a => { '' => [ 1, undef, '\\' ] } }, c => 'NaN', d => $contact{1}{attributes}{d}, e => 'infinity', f => '\\x00ff', g => 'so "so"', h => [ 1, undef ] },
	'all their values arrive');
is($contact{7}{email}, 'n7@example.com', 'a value is never interpreted');
like(failures('hostile'), qr/^2\|invalid_field.*\n3\|unavailable\|HTTP status 500.*\n4\|invalid_email.*\n8\|invalid_email.*\nlonglong.*\|invalid_field\|external_id\|.*more than 128 characters$/,
	'invalid contacts fail with a reason');

# expressions that try to change the role, leave something behind, or end the transaction
create_server($node, $sandbox, 'mailingcore', account => 'neighbour', server => \%unlimited);
sql(
	q{
	CREATE ROLE alice LOGIN;
	GRANT USAGE ON FOREIGN SERVER hostile TO alice;
	CREATE USER MAPPING FOR alice SERVER hostile OPTIONS (api_key 'mc_test_hostile');
	CREATE SCHEMA alice AUTHORIZATION alice;
	CREATE TABLE loot (t text);
	CREATE TABLE times (id int PRIMARY KEY, email text, at timestamptz);
	SELECT contactsync_watch('times', 'neighbour', '{"email": "email", "external_id": "id",
		"attributes": {"at": "at::text", "zone": "current_setting(''TimeZone'')", "me": "current_user::text", "path": "current_setting(''search_path'')", "mem": "current_setting(''work_mem'')"}}');
});
my %attempts = (
	role => q{SET ROLE postgres},
	authorization => q{SET SESSION AUTHORIZATION postgres},
	reset => q{RESET ROLE},
	setting => q{PERFORM set_config('timezone', 'Asia/Tokyo', false), set_config('search_path', 'alice', false), set_config('work_mem', '64kB', false)},
	committing => q{COMMIT},
	writing => q{INSERT INTO public.loot VALUES ('x')},
	storing => q{INSERT INTO alice.own VALUES ('x')},
	temporary => q{CREATE TEMP TABLE t (i int)},
	preparing => q{EXECUTE 'PREPARE evil AS SELECT 1'},
	ending => q{PERFORM pg_terminate_backend(pg_backend_pid())},
	sleeping => q{PERFORM pg_sleep(100)},
	locking => q{LOCK TABLE alice.own IN ACCESS EXCLUSIVE MODE},
	dividing => q{PERFORM 1 / 0});

$node->safe_psql('postgres',
	join(
		';',
		'CREATE TABLE alice.own (t text)',
		map {
			qq{
			CREATE FUNCTION alice.try_$_(text) RETURNS text LANGUAGE plpgsql AS \$f\$ BEGIN $attempts{$_}; RETURN 'done'; END \$f\$;
			CREATE TABLE alice.$_ (id text PRIMARY KEY, email text);
			SELECT contactsync_watch('alice.$_', 'hostile',
				'{"email": "email", "external_id": "''$_''", "attributes": {"x": "alice.try_$_(email)", "me": "current_user::text"}}');
			INSERT INTO alice.$_ VALUES ('$_', '$_\@example.com')}
		} sort keys %attempts),
	extra_params => [ '-U', 'alice' ]);
sql(q{INSERT INTO times VALUES (1, 'a@example.com', '2026-01-01 00:00+00'); CALL contactsync_wait('hostile'); CALL contactsync_wait('neighbour')});

%contact = map { $_->{externalId} => $_ } @{ arrived('hostile') };
is(join(',', grep { $contact{$_} } sort keys %attempts), 'locking,setting', 'only expressions without side effects succeed');
is($contact{setting}{attributes}{me}, 'alice', 'they run as the owner of the watch');
my %why = map { (split(/\|/, $_, 4))[ 0, 3 ] } split(/\n/, sql(q{SELECT concat_ws('|', key, reason, 'field', message) FROM contactsync.failures WHERE source::text LIKE 'alice.%'}));
like($why{role} // '', qr/cannot set parameter "role" within security-/, 'SET ROLE fails');
like($why{authorization} // '', qr/permission denied|within security-/, 'SET SESSION AUTHORIZATION fails');
like($why{committing} // '', qr/invalid transaction termination/, 'COMMIT fails');
like($why{$_} // '', qr/read-only|security-restricted/, "nothing is written: $_") foreach 'storing', 'temporary', 'preparing';
like($why{ending} // '', qr/must be a superuser|permission denied to terminate/, 'the worker cannot be terminated');
is(sql('SELECT (SELECT count(*) FROM loot) + (SELECT count(*) FROM alice.own)'), '0', 'indeed');
my ($contact) = @{ arrived('neighbour') };
is_deeply($contact->{attributes}, { at => '2026-01-01 00:00:00+00', zone => 'UTC', me => 'postgres', path => '"$user", public', mem => sql('SHOW work_mem') },
	'the next watch finds an unchanged environment');
is(sql(q{SELECT string_agg(DISTINCT state, ',') FROM contactsync.status}), 'idle', 'all servers are idle');

# privileges that are revoked and granted again
sql(q{
	ALTER TABLE alice.own ADD id int PRIMARY KEY, ADD owner text;
	ALTER TABLE alice.own OWNER TO postgres;
	GRANT SELECT, TRIGGER ON alice.own TO alice;
	ALTER TABLE alice.own ENABLE ROW LEVEL SECURITY;
	CREATE POLICY mine ON alice.own FOR SELECT USING (owner = current_user);
});
$node->safe_psql('postgres', q{SELECT contactsync_watch('alice.own', 'hostile', '{"email": "t", "external_id": "''own'' || id"}')}, extra_params => [ '-U', 'alice' ]);
sql(q{INSERT INTO alice.own VALUES ('mine@example.com', 1, 'alice'), ('theirs@example.com', 2, 'bob'); CALL contactsync_wait('hostile')});
is(join(',', map { $_->{email} } grep { $_->{externalId} =~ /^own/ } @{ arrived('hostile') }), 'mine@example.com', 'row security applies to the owner of the watch');
sql(q{REVOKE SELECT ON alice.own FROM alice; INSERT INTO alice.own VALUES ('more@example.com', 3, 'alice')});
$node->poll_query_until('postgres', q{SELECT state = 'broken' AND backlog = 1 FROM contactsync.status WHERE source = 'alice.own'::regclass})
  or die 'timed out waiting for a broken watch';
is(sql(q{SELECT reason, failures FROM contactsync.status WHERE source = 'alice.own'::regclass}), 'permission denied for table own|0', 'a revoked privilege breaks the watch, and causes no failure');
sql(q{GRANT SELECT ON alice.own TO alice});
$node->poll_query_until('postgres', q{SELECT state = 'idle' FROM contactsync.status WHERE source = 'alice.own'::regclass})
  or die 'timed out waiting for a mended watch';
is((grep { $_->{email} eq 'more@example.com' } @{ arrived('hostile') }), 1, 'delivery resumes when it is granted again');
sql(q{REVOKE USAGE ON FOREIGN SERVER hostile FROM alice; INSERT INTO alice.own VALUES ('last@example.com', 4, 'alice')});
$node->poll_query_until('postgres', q{SELECT state = 'halted' AND backlog = 1 FROM contactsync.status WHERE source = 'alice.own'::regclass})
  or die 'timed out waiting for a halted account';
is(sql(q{SELECT DISTINCT reason FROM contactsync.status WHERE owner = 'alice'::regrole}), 'configuration: permission denied for foreign server hostile', 'revoking USAGE on the server breaks the watch');
is(sql(q{SELECT state FROM contactsync.status WHERE source = 'customers'::regclass}), 'idle', 'other roles are not affected');

is(sql($worker), $pid, 'the worker was not restarted');

# session locks: those of a mapping are released, and a mapping cannot release the lock on the queue
create_server($node, $sandbox, 'mailingcore', account => 'locks', server => \%unlimited);
sql(
	q{
	CREATE TABLE locks (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('locks', 'locks',
		'{"email": "email", "external_id": "id", "first_name": "pg_advisory_unlock_all()::text || pg_advisory_lock(42)::text"}');
	INSERT INTO locks VALUES (1, 'a@example.com');
	CALL contactsync_wait('locks');
});
# the worker's transactions lock other objects; the number of the lock on the queue is 1
my $locks = qq{
	SELECT string_agg(locktype || ' ' || granted, ',') FROM pg_locks
	WHERE pid = ($worker) AND (locktype = 'advisory' OR locktype = 'object' AND objsubid = 1)};
is(scalar @{ arrived('locks') }, 1, 'a row whose mapping takes an advisory lock is sent');
is(sql($locks), 'object true', 'the advisory lock is released, and the worker still has its lock on the queue');
is(sql('SELECT pg_try_advisory_lock(42)'), 't', 'other sessions can take the advisory lock');
sql(q{UPDATE locks SET email = 'b@example.com'; CALL contactsync_wait('locks')});
is(sql($locks), 'object true', 'this holds each time');

$node->stop;
done_testing();
