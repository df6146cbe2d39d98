# contactsync_report() of forty servers: a table of all first, in the natural order of their names, those in trouble on top;
# charts of eight; a page that is small enough to be mailed, and prints on few pages.

use strict;
use warnings;

use ContactSync;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'time';

my $servers = 40;
my $node = start_node('shared_preload_libraries' => '', 'timezone' => 'Europe/Madrid');
my $dir = PostgreSQL::Test::Utils::tempdir;

sub sql { return $node->safe_psql('postgres', "SET client_min_messages = error; $_[0]"); }

sql('CREATE EXTENSION contactsync; CREATE TABLE customers (id int PRIMARY KEY, email text)');
sql(join ';', map { "CREATE SERVER shop$_ FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 'clx$_');
	CREATE USER MAPPING FOR CURRENT_USER SERVER shop$_ OPTIONS (api_key 'mc_test_$_');
	SELECT contactsync_watch('customers', 'shop$_', '{\"email\": \"email\"}')" } 1 .. $servers);
# a full day of each, with failures of several reasons
sql(q{INSERT INTO contactsync.minute (endpoint, at, first_at, calls, retries, throttled, synced, unchanged, failed, seconds, latency, backlog)
	SELECT e.id, m, m, c, c / 40, c / 30, c * 987, c * 3, c / 3, c * .2, ARRAY[0, 0, c / 4, c / 4, c / 4, c / 8, c / 8, 0, 0, 0, 0, 0, 0], c * 12345
	FROM contactsync.endpoint e, generate_series(date_trunc('minute', now()) - interval '1 day', now(), '1 min') m,
		LATERAL (SELECT (12 + e.id + 10 * sin(extract(epoch FROM m) / 5000 + e.id))::int AS c) x WHERE extract(hour FROM m) <> 3;
	INSERT INTO contactsync.minute_failure (endpoint, at, reason, failed) SELECT endpoint, at, r, failed / 3 FROM contactsync.minute, unnest('{rejected,invalid_email,missing_field}'::text[]) r WHERE failed > 2;
	INSERT INTO contactsync.failure (endpoint, watch, key, reason, code, field, message, attempts, first_at, last_at)
	SELECT endpoint, id, g, 'rejected', 'VALIDATION_FAILED', 'firstName', 'First name must be at most 40 characters long', 3, now(), now() FROM contactsync.watch, generate_series(1, 50) g;
	UPDATE contactsync.counter SET synced = 12345678;
	UPDATE contactsync.endpoint SET state = 'halted', reason = 'unauthorized: MailingCore does not accept the API key: Invalid API key', since = now() - interval '3 h' WHERE server IN ('shop10', 'shop9');
	UPDATE contactsync.endpoint SET state = 'throttled', reason = 'too many requests', until = now() + interval '1 min' WHERE server = 'shop2';
	ANALYZE});
my $began = time();
my $html = sql('SELECT contactsync_report()');
note(sprintf '%d servers: %.2f s, %d bytes', $servers, time() - $began, length $html);
cmp_ok(length $html, '<', 200_000, 'the page is smaller than 200 kB');
my ($table) = $html =~ m{<section id="servers">(.*?)</section>}s;
like($table, qr{<h2>40 servers, 3 not well</h2>}, 'the table of all servers says how many are not well');
is(join(' ', $table =~ /<bdi>(shop\d+)</g), join(' ', 'shop9', 'shop10', 'shop2', map { "shop$_" } grep { !/^(2|9|10)$/ } 1 .. $servers),
	'... which come first, and all are in the natural order of their names');
is(() = $table =~ /class="spark"/g, $servers, '... each with what was done over time');
is(join(' ', ($html =~ m{<h2 id="server-\d+"><bdi>(\w+)<}g)[ 0 .. 2 ]), 'shop9 shop10 shop2', 'those that are not well are shown in detail');
is(() = $html =~ /<section class="server"/g, 8, '... and others, eight in all');
like($html, qr/Of the 40 servers, 8 are shown in detail/, '... which the page says');
unlike($html, qr/<circle/, 'no chart has dots');

# on paper: whoever prints it gets no half charts, and not a page for each server
my ($chromium) = grep { -x $_ } map { ("$_/chromium", "$_/chromium-browser", "$_/google-chrome") } split /:/, $ENV{PATH};
SKIP:
{
	skip 'there is no Chromium', 2 unless $chromium;
	open my $file, '>', "$dir/report.html" or die "report.html: $!";
	print $file $html;
	close $file;
	my ($out, $err);
	IPC::Run::run(
		[
			'env', "HOME=$dir", $chromium, '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--disable-extensions',
			'--disable-background-networking', '--host-resolver-rules=MAP * ~NOTFOUND', "--user-data-dir=$dir/chromium", '--print-to-pdf-no-header',
			"--print-to-pdf=$dir/report.pdf", "file://$dir/report.html"
		],
		'>', \$out, '2>', \$err)
	  or die "$chromium: $err";
	my $pdf = PostgreSQL::Test::Utils::slurp_file("$dir/report.pdf");
	my $pages = () = $pdf =~ m{/Type\s*/Page\b}g;
	note("$pages pages");
	cmp_ok($pages, '>', 1, 'it is printed');
	cmp_ok($pages, '<=', 14, '... on no more pages than the table, two servers a page, and the failures take');
}

# one server has no table of others to be lost in
sql(q{DELETE FROM contactsync.minute m USING contactsync.endpoint e WHERE e.id = m.endpoint AND server <> 'shop1'});
sql(join ';', map { "SELECT contactsync_unwatch('customers', 'shop$_'); DROP USER MAPPING FOR CURRENT_USER SERVER shop$_; DROP SERVER shop$_" } 2 .. $servers);
sql(q{DELETE FROM contactsync.endpoint WHERE server <> 'shop1'});
like(sql('SELECT contactsync_report()'), qr{<h2>1 server, which is well</h2>}, 'a page of one server');

$node->stop;
done_testing();
