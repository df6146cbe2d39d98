# The key is in pg_user_mapping and in the requests, and nowhere else: not in the log, however verbose, not
# in a table, a view, an error or the title of a process, even if the provider repeats it.

use strict;
use warnings;

use ContactSync;
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.clock_speed' => 50);
my @keys = map { "mc_test_${_}_Zq7wXy" } 'crm', 'wrong';
my $key = $keys[0];
my $secret = qr/mc_test_(crm|wrong)_Zq/;
my $shown = '';    # everything that a user saw

# return what a user sees of a script: its output and its errors
sub show
{
	my ($sql) = @_;
	my ($stdout, $stderr);

	$node->psql('postgres', $sql, stdout => \$stdout, stderr => \$stderr, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	$shown .= "$sql\n$stdout\n$stderr\n";
	return $stderr;
}

$sandbox->config('mailingcore', { account => 'crm', keys => { $key => { scopes => ['contacts:write'] } } });
create_server($node, $sandbox, 'mailingcore', account => 'crm', mapping => { api_key => $key }, server => { max_retries => 1, pace => 1000, burst => 1000 });
$sandbox->config('mailingcore', { account => 'crm', limits => { client => undef } });

# the statement that sets a key is the user's responsibility, as with any password; from here on everything is logged
$node->safe_psql(
	'postgres', q{
	ALTER SYSTEM SET log_statement = 'all';
	ALTER SYSTEM SET log_min_messages = 'debug2';
	ALTER SYSTEM SET log_min_error_statement = 'debug1';
	ALTER SYSTEM SET log_min_duration_statement = 0;
	ALTER SYSTEM SET debug_print_plan = on;
	ALTER SYSTEM SET log_error_verbosity = 'verbose';
	SELECT pg_reload_conf();
});

# errors of the provider, which may repeat parts of the request
my @answers = (
	{ status => 401, body => qq({"message": "the key $key is not valid", "statusCode": 401}) },
	{ status => 500, body => qq({"message": "could not connect with $key", "statusCode": 500}) },
	{ status => 502, html => "<html><title>Bearer $key</title></html>" },
	{ status => 429, retry_after => '0', headers => { 'X-Request-Id' => $key }, body => qq({"message": "$key is too fast"}) },
	{ redirect => "https://example.com/?token=$key" },
	{ body => qq({"created": 0, "updated": 0, "failed": 1, "errors": [{"index": 0, "code": "$key", "message": "not with $key", "field": "$key"}]}) },
	{ status => 400, headers => { 'X-Request-Id' => $key }, body => qq({"message": ["$key is not an address"], "statusCode": 400}) },
	{ stall => \1 },
	{ reset => 'inside' });

show(
	q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, n int DEFAULT 1);
	SELECT contactsync_watch('customers', 'crm', '{"email": "email", "external_id": "id", "attributes": {"n": "1 / n"}}');
	INSERT INTO customers VALUES (1, 'c1@example.com'), (2, 'nobody'), (3, 'c3@example.com', 0);
});
foreach my $i (0 .. $#answers)
{
	$sandbox->fault('mailingcore', { match => { account => 'crm' }, action => $answers[$i] });
	show("INSERT INTO customers VALUES (10 + $i, 'a$i\@example.com')");
	wait_for("the answer number $i", sub { !grep { $_->{times_left} } @{ $sandbox->faults('mailingcore') } });
	show("ALTER SERVER crm OPTIONS (@{[$i ? 'SET' : 'ADD']} timeout '@{[40 + $i]}s')");
	show(q{CALL contactsync_wait('crm')});
}

# errors of the user
show(q{SELECT contactsync_upsert('crm', '{"email": "direct@example.com"}'); CALL contactsync_wait('crm'); CALL contactsync_run()});
show(q{SELECT * FROM contactsync_preview('crm', '{"email": "direct@example.com"}')});
show(q{SELECT * FROM contactsync_preview('customers', 'crm', ARRAY[1, 2, 3]); SELECT * FROM contactsync_try('customers', 'crm', '{"email": "email"}');
	SELECT * FROM contactsync_suggest('customers', 'crm')});
like(show(qq{ALTER SERVER crm OPTIONS (ADD api_key 'x')}), qr/belongs to the user mapping/, 'a key is rejected where every role can read it');
$node->safe_psql('postgres', qq{SET log_statement = 'none'; SET log_min_duration_statement = -1; SET debug_print_plan = off; ALTER USER MAPPING FOR CURRENT_USER SERVER crm OPTIONS (SET api_key '$keys[1]')});
show(q{INSERT INTO customers VALUES (100, 'late@example.com')});
$node->poll_query_until('postgres', q{SELECT state = 'halted' FROM contactsync.status WHERE source IS NOT NULL}) or die 'timed out waiting for a halt';
show(q{CALL contactsync_wait('crm')});

# all tables and views of the extension, as seen by a superuser
show(
	q{
	SELECT query_to_xml(format('SELECT * FROM contactsync.%I', relname), true, false, '') FROM pg_class
	WHERE relnamespace = 'contactsync'::regnamespace AND relkind IN ('r', 'v');
	SELECT * FROM pg_stat_activity;
	SELECT * FROM pg_foreign_server;
});
like($shown, qr/Bearer \*\*\*|with \*\*\*/, 'what the provider repeated is shown without the key');
unlike($shown, $secret, 'no statement, error, table or view contains the key');

# other roles see less
$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN');
my ($result, $stdout) = $node->psql('postgres', 'SELECT umoptions FROM pg_user_mappings WHERE umoptions IS NOT NULL; SELECT * FROM contactsync.status; SELECT * FROM contactsync.calls',
	extra_params => [ '-U', 'stranger' ]);
is($stdout, '', 'another role sees neither mappings nor states nor calls');
foreach my $table (split(/\n/, $node->safe_psql('postgres', q{SELECT relname FROM pg_class WHERE relnamespace = 'contactsync'::regnamespace AND relkind = 'r'})))
{
	my (undef, undef, $stderr) = $node->psql('postgres', "SELECT * FROM contactsync.$table", extra_params => [ '-U', 'stranger' ]);
	like($stderr, qr/permission denied/, "another role cannot read the table $table");
}

my $titles = join("\n", map { -r $_ ? slurp_file($_) : '' } glob('/proc/[0-9]*/cmdline'));
unlike($titles, $secret, 'no process title contains the key');

$node->stop;
my $log = slurp_file($node->logfile);
like($log, qr/INSERT INTO customers VALUES \(100/, 'the log contains every statement');
unlike($log, $secret, 'the log does not contain the key');
done_testing();
