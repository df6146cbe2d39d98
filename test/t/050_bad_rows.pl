# One bad row among many good ones, whatever is wrong with it: the good ones arrive, and its failure states the reason.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.clock_speed' => 50, 'contactsync.source_timeout' => '500ms');
my $rows = 1000;
my $bad = 500;

# Create a table of many good rows and a bad one, mirrored to its own server.
sub prepare
{
	my ($name, %param) = @_;
	my $mapping = $param{mapping} // '{"email": "email", "external_id": "id"}';

	create_server($node, $sandbox, 'mailingcore', account => $name, server => { pace => 1000, burst => 1000, connect_timeout => '10min', %{ $param{server} // {} } });
	$sandbox->fault('mailingcore', { match => { account => $name, key => "c$bad\@example.com" }, times => undef, %{ $param{fault} } })
	  if $param{fault};
	$node->safe_psql(
		'postgres', qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, n int DEFAULT 1, locale text);
		@{[$param{setup} // '']};
		SELECT contactsync_watch('$name', '$name', \$\$$mapping\$\$, filter => @{[quote_literal($param{filter} // 'true')]});
		BEGIN;
		INSERT INTO $name SELECT g, format('c%s\@example.com', g) FROM generate_series(1, $rows) g;
		@{[$param{sql} // '']};
		COMMIT;
	});
	return;
}

sub fails
{
	my ($title, $name, $expected) = @_;

	$node->safe_psql('postgres', "CALL contactsync_wait('$name')");
	like(
		$node->safe_psql('postgres', qq{SELECT concat_ws('|', key, reason, field, message) FROM contactsync.failures WHERE server = '$name'}),
		qr/^$bad\|$expected$/, "$title: only the bad row fails");
	is($sandbox->count('mailingcore', account => $name)->{contacts}, $rows - 1, 'all other contacts arrive');
	return;
}

prepare('email', sql => "UPDATE email SET email = 'nobody' WHERE id = $bad");
prepare('empty', sql => "UPDATE empty SET email = NULL WHERE id = $bad");
prepare('division', mapping => '{"email": "email", "external_id": "id", "attributes": {"n": "1 / n"}}', sql => "UPDATE division SET n = 0 WHERE id = $bad");
prepare('filter', filter => '10 / n > 0', sql => "UPDATE filter SET n = 0 WHERE id = $bad");
prepare('raised',
	setup => q{CREATE FUNCTION check_plan(n int) RETURNS text LANGUAGE plpgsql AS $f$ BEGIN
		IF n = 0 THEN RAISE EXCEPTION 'no plan for zero' USING ERRCODE = 'P0001'; END IF; RETURN n; END $f$},
	mapping => '{"email": "email", "external_id": "id", "attributes": {"plan": "check_plan(n)"}}',
	sql => "UPDATE raised SET n = 0 WHERE id = $bad");
prepare('slow',
	setup => q{CREATE FUNCTION slow_plan(n int) RETURNS text LANGUAGE plpgsql AS $f$ BEGIN
		IF n = 0 THEN PERFORM pg_sleep(60); END IF; RETURN n; END $f$},
	mapping => '{"email": "email", "external_id": "id", "attributes": {"plan": "slow_plan(n)"}}',
	sql => "UPDATE slow SET n = 0 WHERE id = $bad");
prepare('refused', fault => { action => { reject_items => { "c$bad\@example.com" => { message => 'blocked' } } } });
prepare('whole', server => { unsupported_locale => 'send' }, mapping => '{"email": "email", "external_id": "id", "locale": "locale"}',
	sql => "UPDATE whole SET locale = 'xx' WHERE id = $bad");
prepare('crashing', fault => { action => { status => 500 } });
prepare('hanging', fault => { action => { reset => 'before' } });
prepare('garbled', fault => { action => { body => '?' } });

fails('an invalid address', 'email', 'invalid_email\|email\|.*');
fails('no address', 'empty', 'missing_field\|email\|.*');
fails('a division by zero', 'division', 'mapping_error\|division by zero');
fails('the same in the filter', 'filter', 'mapping_error\|division by zero');
fails('an exception', 'raised', 'mapping_error\|no plan for zero');
fails('an expression that hangs', 'slow', 'mapping_error\|mapping and filter took longer than contactsync.source_timeout');
fails('a refusal', 'refused', 'rejected\|blocked');
fails('a refusal of all on account of one', 'whole', 'rejected\|.*following values.*');
fails('an internal error', 'crashing', 'unavailable\|HTTP status 500.*');
fails('a lost connection', 'hanging', 'unavailable\|no answer.*');
fails('an answer that is not understood', 'garbled', 'unreadable_answer\|.*not understood.*');

# many rows, each larger than any provider accepts: they fail, and the worker's memory does not grow with them
create_server($node, $sandbox, 'mailingcore', account => 'huge', server => { pace => 1000, burst => 1000 });
$node->safe_psql(
	'postgres', q{
	CREATE TABLE huge (id int PRIMARY KEY, email text, story text);
	SELECT contactsync_watch('huge', 'huge', '{"email": "email", "external_id": "id", "attributes": {"story": "story"}}');
	INSERT INTO huge SELECT g, format('h%s@example.com', g), CASE WHEN g <= 500 THEN repeat('x', 2000000) END FROM generate_series(1, 510) g;
	CALL contactsync_wait('huge');
});
is($node->safe_psql('postgres', q{SELECT count(*), min(message) FROM contactsync.failures WHERE server = 'huge'}), '500|the contact is larger than 64 kB', 'contacts that are too large fail');
is($sandbox->count('mailingcore', account => 'huge')->{contacts}, 10, 'other contacts arrive');
SKIP:
{
	my $status = '/proc/' . $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'}) . '/status';

	skip 'no /proc here', 1 unless -r $status;
	my ($peak) = PostgreSQL::Test::Utils::slurp_file($status) =~ /^VmHWM:\s+(\d+) kB/m;
	cmp_ok($peak, '<', 1_000_000, 'a gigabyte of such rows does not take a gigabyte of memory');
}

is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT state || COALESCE(reason, ''), ',') FROM contactsync.status}), 'idle', 'every server is idle');

$node->stop;
done_testing();
