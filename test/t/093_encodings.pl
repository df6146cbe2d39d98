# Databases in other encodings than UTF-8: text of theirs in the names of servers, tables, columns and attributes, in keys,
# values, filters, traces and failures arrives at the provider, and comes back from it.

use strict;
use warnings;
use utf8;

use Encode qw(decode encode);
use ContactSync;
use Test::More;

# a word in lower case that the encoding has, and a letter that it lacks
my %words = (
	UTF8 => [ '用語ł', undef ],
	LATIN1 => [ 'süß', 'ł' ],
	LATIN9 => [ 'œuf€', 'ł' ],
	WIN1251 => [ 'жук', 'é' ],
	EUC_JP => [ '用語é', '€' ],
	SQL_ASCII => [ '用語ł', undef ]);

my $sandbox = start_sandbox();
my $node = start_node('contactsync.clock_speed' => 20);
my $worker = 'SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = \'contactsync worker\'';

# Run SQL in the database of an encoding.
sub sql
{
	my ($encoding, $sql) = @_;

	return decode('UTF-8', $node->safe_psql(lc $encoding, encode('UTF-8', "SET client_encoding = 'UTF8'; $sql")));
}

# What the provider has: external id to contact.
sub arrived
{
	my ($encoding) = @_;

	return { map { $_->{externalId} => $_ } @{ $sandbox->contacts('mailingcore', account => lc $encoding) } };
}

sub test_encoding
{
	my ($encoding) = @_;
	my ($word, $lacking) = @{ $words{$encoding} };
	my $account = lc $encoding;
	my $server = "${word}s";
	my $is = sub { my ($got, $expected, $name) = @_; is($got, $expected, "$encoding: $name") };

	$node->safe_psql('postgres', "CREATE DATABASE $account TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
	create_server($node, $sandbox, 'mailingcore', account => $account, dbname => $account, server => { pace => 1000, burst => 1000 });
	sql($encoding, qq{ALTER SERVER $account RENAME TO "$server";
		ALTER SERVER "$server" OPTIONS (ADD first_name_attribute '${word}_name', ADD last_name_attribute 'none')});

	# direct, with a trace; the first text that is converted is ASCII
	sql($encoding, qq{SELECT contactsync_upsert('$server', '{"email": "plain\@example.com", "external_id": "plain"}'); CALL contactsync_wait('$server')});
	my $pid = sql($encoding, $worker);
	ok(arrived($encoding)->{plain}, "$encoding: a contact in ASCII arrives");
	sql($encoding, qq{SELECT contactsync_trace('$server', ' $word\@Example.com');
		SELECT contactsync_upsert('$server', '{"email": "$word\@example.com", "external_id": "${word}1", "first_name": "$word", "attributes": {"$word": ["$word"]}}');
		CALL contactsync_wait('$server')});
	my $contact = arrived($encoding)->{"${word}1"};
	is_deeply([ $contact->{email}, $contact->{attributes} ], [ "$word\@example.com", { $word => [$word], "${word}_name" => $word } ],
		"$encoding: a direct contact arrives unchanged");
	$is->(sql($encoding, q{SELECT upsert_key FROM contactsync.contacts WHERE upsert_key <> 'plain'}), "${word}1", 'it is remembered');
	my ($request) = map { $_->{request} } map { JSON::PP->new->decode($_) } sql($encoding, q{SELECT json_build_object('request', request) FROM contactsync.traces});
	like($request, qr/\Q["$word"]/, "$encoding: it is traced");
	like(sql($encoding, qq{SELECT string_agg(event, ' ') FROM contactsync_find(' $word\@example.com ')}), qr/synced/, "$encoding: it is found by its address");

	# a table with two key columns, whose names, values, filter and mapping are of the encoding
	sql(
		$encoding, qq{
		CREATE TABLE "t_$word" ("$word" text, n text, email text, plan text, PRIMARY KEY ("$word", n));
		SELECT contactsync_watch('t_$word', '$server', '{"email": "email", "external_id": "\\"$word\\" || n", "attributes": {"$word": "plan", "${word}2": "array[plan]"}}',
			filter => 'plan <> ''no $word''', on_delete => 'delete', delete_delay => '0');
		INSERT INTO "t_$word" VALUES ('a$word', '2', '$word.2\@example.com', '$word "2"'), ('$word', '3', 'c3\@example.com', 'no $word'),
			('a$word', '4', 'c4\@example.com', '4'), (E'"], ["\\\\$word\\n', '5', 'c5\@example.com', '5');
		CALL contactsync_wait('$server')});
	$contact = arrived($encoding)->{"a${word}2"};
	is_deeply([ $contact->{email}, $contact->{attributes} ], [ "$word.2\@example.com", { $word => "$word \"2\"", "${word}2" => ["$word \"2\""] } ],
		"$encoding: a row with a composite key arrives unchanged");
	$is->(join('|', sort keys %{ arrived($encoding) }), join('|', sort 'plain', "${word}1", "a${word}2", "a${word}4", qq{"], ["\\$word\n5}), 'so do others, but not what is filtered');
	$is->(sql($encoding, qq{SELECT key FROM contactsync.contacts WHERE upsert_key = 'a${word}4'}), qq{["a$word", "4"]}, 'the key of the row is shown');
	$is->(sql($encoding, q{SELECT count(*) FROM contactsync.failures}), '0', 'nothing fails');

	sql($encoding, qq{UPDATE "t_$word" SET plan = '$word+'; DELETE FROM "t_$word" WHERE n IN ('4', '5'); CALL contactsync_wait('$server')});
	my $plans = sub { join('|', map { "$_->{externalId}=" . ($_->{attributes}{$word} // '') } grep { $_->{externalId} =~ /[23]$/ } sort { $a->{externalId} cmp $b->{externalId} } values %{ arrived($encoding) }) };
	$is->($plans->(), join('|', sort "a${word}2=$word+", "${word}3=$word+"), 'rows are updated');
	$is->(join('|', sort keys %{ arrived($encoding) }), join('|', sort 'plain', "${word}1", "a${word}2", "${word}3"), 'and deleted');
	$is->(sql($encoding, qq{SELECT contactsync_trace_row('t_$word', '$server', '["$word", "3"]'::text);
		SELECT contactsync_touch('t_$word', '$server', '["a$word", "2"]'::text), contactsync_touch('t_$word', '$server', ARRAY['$word', '3']);
		CALL contactsync_wait('$server');
		SELECT key FROM contactsync.traces WHERE source IS NOT NULL}), qq{\n1|1\n["$word", "3"]}, 'rows are touched and traced');

	# pages of scans begin after a key
	sql($encoding, qq{SET session_replication_role = replica;
		INSERT INTO "t_$word" SELECT '$word ' || g, 'x', 'x' || g || '\@example.com', '$word' FROM generate_series(1, 1100) g;
		DELETE FROM "t_$word" WHERE n = '2';
		SELECT contactsync_reconcile('t_$word', '$server'); CALL contactsync_wait('$server')});
	$is->(sql($encoding, q{SELECT state, new, changed, unchanged, gone FROM contactsync.progress WHERE kind = 'reconcile'}),
		'done|1100|0|1|1', 'a reconciliation reads all rows');
	$is->(join('|', sort grep { !/x$/ } keys %{ arrived($encoding) }), join('|', sort 'plain', "${word}1", "${word}3"), 'it removes what has gone');

	# what the provider says
	$sandbox->fault('mailingcore', { match => { account => $account }, times => 1,
		action => { reject_items => { 'no@example.com' => { code => 'x', message => "$word: nix" . ($lacking // ''), status => 422 } } } });
	sql($encoding, qq{SELECT contactsync_upsert('$server', '{"email": "no\@example.com", "external_id": "no"}'); CALL contactsync_wait('$server')});
	$is->(sql($encoding, q{SELECT message FROM contactsync.failures}),
		"$word: nix" . ($lacking ? sprintf('<U+%04X>', ord $lacking) : ''), 'a message is stored, even if it has other letters');
	$sandbox->fault('mailingcore', { match => { account => $account }, times => 1, action => { status => 503, body => { message => $word } } });
	sql($encoding, qq{SELECT contactsync_retry('$server'); CALL contactsync_wait('$server')});
	$is->(sql($encoding, q{SELECT count(*) FROM contactsync.failures}), '0', 'it can be retried');

	# errors of this database
	sql($encoding, qq{CREATE TABLE numbers (id text PRIMARY KEY, email text);
		SELECT contactsync_watch('numbers', '$server', '{"email": "email", "external_id": "id::int"}');
		INSERT INTO numbers VALUES ('$word', 'n\@example.com'); CALL contactsync_wait('$server')});
	like(sql($encoding, q{SELECT key, reason, message FROM contactsync.failures}), qr/^$word\|mapping_error\|.*"$word"$/, "$encoding: an error of a mapping is stored");

	# a person is forgotten
	sql($encoding, qq{SELECT count(*) FROM contactsync_verify('$server');
		SELECT contactsync_forget('$word\@example.com'); CALL contactsync_wait('$server')});
	$is->(sql($encoding, qq{SELECT count(*) FROM contactsync.contacts WHERE upsert_key = '${word}1'}), '0', 'a person is forgotten');
	$is->(sql($encoding, qq{SELECT count(*) FROM contactsync_find('$word\@example.com')}), '0', 'with all traces');

	$is->(sql($encoding, $worker), $pid, 'the worker was not restarted');
}

test_encoding($_) foreach sort keys %words;

# the same person has the same hash everywhere, so that memory of consent can be restored
my %hashes = map {
	sql($_, q{DELETE FROM contactsync.consent_key; INSERT INTO contactsync.consent_key VALUES (true, decode(repeat('ab', 32), 'hex'));
		SELECT contactsync.consent_hash('Béa@example.com')}) => 1
} qw(UTF8 LATIN1 LATIN9 EUC_JP SQL_ASCII);
is(scalar(keys %hashes), 1, 'the hash of an address is the same in all encodings');

# bytes that are no UTF-8
my $bad = q{convert_from('\xe9ff', 'SQL_ASCII')};
sql('SQL_ASCII', qq{
	CREATE TABLE bytes (id text, part text, email text, name text, PRIMARY KEY (id, part));
	SELECT contactsync_watch('bytes', '用語łs', '{"email": "email", "external_id": "part", "attributes": {"ł": "name", "list": "ARRAY[name]"}}', on_delete => 'delete', delete_delay => '0');
	BEGIN;
	INSERT INTO bytes SELECT 'b' || g, 'b' || g, 'b' || g || '\@example.com', 'good' FROM generate_series(1, 50) g;
	UPDATE bytes SET name = $bad WHERE part = 'b7';
	UPDATE bytes SET email = $bad || '\@example.com' WHERE part = 'b8';
	UPDATE bytes SET id = $bad WHERE part = 'b9';
	INSERT INTO bytes VALUES ('b51', $bad, 'b51\@example.com', 'good');
	COMMIT;
	CALL contactsync_wait('用語łs')});
is(sql('SQL_ASCII', qq{SELECT string_agg(concat_ws('|', replace(key, $bad, '(bytes)'), reason, field, message), E'\n' ORDER BY key) FROM contactsync.failures WHERE source = 'bytes'::regclass}),
	join("\n", '["b51", "(bytes)"]|invalid_field|external_id|external_id is not valid UTF-8', '["b7", "b7"]|invalid_field|list|list is not valid UTF-8',
		'["b8", "b8"]|invalid_field|email|email is not valid UTF-8'),
	'SQL_ASCII: rows with arbitrary bytes fail with a reason');
is(scalar(grep { /^b\d+$/ } keys %{ arrived('SQL_ASCII') }), 48, 'SQL_ASCII: all others arrive, also one with such bytes in its key');
sql('SQL_ASCII', q{DELETE FROM bytes WHERE part IN ('b1', 'b7', 'b9'); UPDATE bytes SET email = 'b8@example.com' WHERE part = 'b8'; CALL contactsync_wait('用語łs')});
is(scalar(grep { /^b\d+$/ } keys %{ arrived('SQL_ASCII') }), 47, 'SQL_ASCII: they can be deleted, and corrected');

# an encoding that has no conversion to UTF-8: what is ASCII can be sent; a client cannot ask for UTF-8, as --encoding has it do
delete $ENV{PGOPTIONS};
$node->safe_psql('postgres', q{CREATE DATABASE mule TEMPLATE template0 ENCODING 'MULE_INTERNAL' LC_COLLATE 'C' LC_CTYPE 'C'});
create_server($node, $sandbox, 'mailingcore', account => 'mule', dbname => 'mule', server => { pace => 1000, burst => 1000 });
$node->safe_psql('mule', q{
	CREATE TABLE customers (id text PRIMARY KEY, email text, name text);
	SELECT contactsync_watch('customers', 'mule', '{"email": "email", "external_id": "id", "attributes": {"name": "name"}}');
	INSERT INTO customers VALUES ('1', 'c1@example.com', 'plain'), ('2', 'c2@example.com', E'\x81\xe9'), (E'\x81\xe9', 'c3@example.com', 'plain');
	CALL contactsync_wait('mule')});
is(join(',', map { $_->{externalId} } @{ $sandbox->contacts('mailingcore', account => 'mule') }), '1', 'MULE_INTERNAL: a row in ASCII arrives');
is($node->safe_psql('mule', 'SELECT field, message FROM contactsync.failures ORDER BY field'),
	"external_id|external_id has a character that UTF-8 lacks\nname|name has a character that UTF-8 lacks", 'MULE_INTERNAL: others fail with a reason');

ok(!$node->log_contains('terminated by signal'), 'no process crashed');

$node->stop;
done_testing();
