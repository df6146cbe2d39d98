# contactsync_report() in Chromium: figures equal those of SQL, nothing is loaded from elsewhere, no text is taken for
# markup, no address is shown unless requested, and nothing scrolls sideways on narrow and wide screens.
#
# With SCREENSHOTS=DIRECTORY, store pictures of it, and of psql's output, there: see test/screenshots.sh.

use strict;
use warnings;

use ContactSync;
use IPC::Run;
use JSON::PP;
use MIME::Base64;
use PostgreSQL::Test::Utils;
use Test::More;

my ($chromium) = grep { -x $_ } map { ("$_/chromium", "$_/chromium-browser", "$_/google-chrome") } split /:/, $ENV{PATH};
plan skip_all => 'there is no Chromium' unless $chromium;

my $pictures = $ENV{SCREENSHOTS};
my $dir = PostgreSQL::Test::Utils::tempdir;
my $sandbox = start_sandbox();
my $node = start_node('shared_preload_libraries' => '', 'timezone' => 'Europe/Madrid');

sub sql { return $node->safe_psql('postgres', "SET client_min_messages = error; $_[0]"); }

# Return Chromium's output for a page; it can only load files.
sub browse
{
	my ($file, @options) = @_;
	my ($out, $err);

	IPC::Run::run(
		[
			# set HOME, where the browser leaves files
			'env', "HOME=$dir", $chromium,
			'--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--disable-extensions',
			'--disable-background-networking', '--hide-scrollbars', '--host-resolver-rules=MAP * ~NOTFOUND',
			"--user-data-dir=$dir/chromium", @options, "file://$file"
		],
		'>', \$out, '2>', \$err)
	  or die "$chromium: $err";
	return $out;
}

sub escape { my ($html) = @_; return $html =~ s/&/&amp;/gr =~ s/"/&quot;/gr; }

# Return the layout of the page in windows of these widths, measured by a script around it, because it may contain none.
sub look
{
	my ($html, @widths) = @_;
	my $frames = join '', map { "<iframe style='border:0' width=$_ height=900 srcdoc=\"" . escape($html) . '"></iframe>' } @widths;
	my $page = write_file("$dir/look.html", <<"END");
<!DOCTYPE html><meta charset="utf-8"><body>$frames<script>
window.onload = () => {
	const texts = (d, s) => [...d.querySelectorAll(s)].map(e => e.textContent);
	const result = [...document.querySelectorAll('iframe')].map(f => {
		const d = f.contentDocument;
		return {
			width: f.contentWindow.innerWidth, scroll: d.documentElement.scrollWidth, title: d.title, text: d.body.textContent,
			outside: [...d.querySelectorAll('body *')].filter(e => !e.closest('.wide') && e.getBoundingClientRect().right > f.contentWindow.innerWidth + 1)
				.map(e => e.outerHTML.slice(0, 80)),
			small: [...d.querySelectorAll('svg:not(.spark)')].filter(e => 12.5 * e.getBoundingClientRect().width / 440 < 8.5).length,
			active: d.querySelectorAll('script, link, img, iframe, object, embed, form, a, base, [src], [href], [onclick], [onerror]').length,
			unnamed: [...d.querySelectorAll('svg:not([aria-hidden])')].filter(e => !d.getElementById(e.getAttribute('aria-labelledby').split(' ')[0])?.textContent
				|| !e.querySelector('desc')?.textContent).length,
			ids: [...d.querySelectorAll('[id]')].map(e => e.id),
			servers: [...d.querySelectorAll('.server')].map(s => ({
				name: s.querySelector('h2').textContent, state: s.querySelector('.pill').textContent, charts: s.querySelectorAll('svg').length, dots: s.querySelectorAll('svg circle').length,
				hint: s.querySelector('.hint')?.textContent, tiles: [...s.querySelectorAll('.tiles data')].map(e => e.value),
				reasons: [...s.querySelectorAll('.bars tbody tr')].map(r => r.cells[0].textContent + '=' + r.querySelector('data').value),
				data: [...s.querySelectorAll('.data tbody tr')].map(r => [...r.cells].map(c => c.textContent)),
				scans: [...s.querySelectorAll('.scans tbody tr')].map(r => [...r.cells].map(c => c.textContent).slice(0, 7).join('|')),
				watches: texts(s, '.watches tbody th'),
				consent: [...s.querySelectorAll('.watches tbody tr')].map(r => [0, 6, 7].map(i => r.cells[i].textContent).join(' '))})),
			all: [...d.querySelectorAll('#servers tbody tr')].map(r => [...r.cells].map(c => c.textContent.trim()).join('|')), heading: d.querySelector('#servers h2')?.textContent,
			failures: [...d.querySelectorAll('#failures tbody tr')].map(r => [...r.cells].map(c => c.textContent))
		};
	});
	const out = document.createElement('pre');
	out.id = 'result';
	out.textContent = btoa(String.fromCharCode(...new TextEncoder().encode(JSON.stringify(result))));
	document.body.replaceChildren(out);
};
</script>
END
	my ($result) = browse($page, '--dump-dom') =~ /<pre id="result">([^<]*)</ or die 'Chromium shows no result';
	return @{ decode_json(MIME::Base64::decode_base64($result)) };
}

sub report { my ($arguments) = @_; return $node->safe_psql('postgres', 'SELECT contactsync_report(' . ($arguments // '') . ')'); }

# ---------- an empty report ----------

sql('CREATE EXTENSION contactsync');
my ($empty) = look(report(), 800);
like($empty->{text}, qr/Nothing is sent to any of your servers yet/, 'a page without servers');

# ---------- a day of three servers ----------

my $hostile = q{<img src=x onerror=alert(1)>&amp;"'} . "\x{202e}";
my $hostile_sql = qq{E'<img src=x onerror=alert(1)>&amp;"\\'\\u202E'};

foreach my $name ('newsletter', 'webshop')
{
	create_server($node, $sandbox, $name eq 'webshop' ? 'owlat' : 'mailingcore', account => $name, server => { pace => 1000, burst => 1000 });
}
sql(q{
	CREATE TABLE customers (id text PRIMARY KEY, email text, first_name text);
	CREATE TABLE buyers (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('customers', 'newsletter', '{"email": "email", "external_id": "id", "first_name": "first_name"}');
	SELECT contactsync_watch('buyers', 'webshop', '{"email": "email"}');
	INSERT INTO customers SELECT g, format('c%s@example.com', g), 'Jane' FROM generate_series(1, 60) g;
	INSERT INTO customers VALUES ('7001', 'nobody'), ('7002', 'jane.doe@@example.com'), ('key@example.com', 'jane doe@example.com');
	INSERT INTO buyers SELECT g, format('b%s@example.com', g) FROM generate_series(1, 5) g;
	CREATE SERVER "test account" FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'owlat');
	CREATE USER MAPPING FOR CURRENT_USER SERVER "test account" OPTIONS (api_key 'lm_live_unused');
	CREATE TABLE quiet (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('quiet', 'test account', '{"email": "email"}');
	});
$node->safe_psql('postgres', "CALL contactsync_run('newsletter')");
$node->safe_psql('postgres', "CALL contactsync_run('webshop')");
is(sql('SELECT sum(synced), sum(failed) FROM contactsync.history'), '65|3', 'deliveries are in the history');

# The rest of the day: quiet at night, slow at noon, and throttled one morning.
sql(q{
	INSERT INTO contactsync.minute (endpoint, at, first_at, calls, retries, throttled, synced, unchanged, failed, seconds, latency, backlog)
	SELECT e.id, m.at, m.at, calls, calls / 40, CASE WHEN h BETWEEN 4 AND 5 THEN calls / 5 ELSE 0 END, calls * 9, calls / 2, failed, calls * .2,
		CASE WHEN h BETWEEN 9 AND 12 THEN ARRAY[0, 0, 0, 0, calls / 4, calls / 4, calls / 3, calls / 8, calls / 20, 0, 0, 0, 0]
			ELSE ARRAY[0, 0, 0, calls / 5, calls / 3, calls / 3, calls / 9, calls / 40, 0, 0, 0, 0, 0] END,
		CASE WHEN h BETWEEN 8 AND 14 THEN (3000 * sin((h - 8) * pi() / 6.5) ^ 2)::int WHEN calls > 30 THEN calls END
	FROM contactsync.endpoint e,
		generate_series(date_trunc('minute', now() - interval '24 hours') + interval '3 min', now() - interval '10 min', '1 min') AS m (at),
		LATERAL (SELECT extract(epoch FROM m.at - now() + interval '24 hours') / 3600 AS h) AS t,
		LATERAL (SELECT (CASE WHEN e.server = 'webshop' THEN 12 ELSE 44 END * (1.1 + sin((h - 7) * pi() / 11) + .25 * sin(h * 9)))::int AS calls) AS c,
		LATERAL (SELECT CASE WHEN h BETWEEN 9 AND 11 THEN calls / 3 WHEN calls > 70 THEN 2 ELSE 0 END AS failed) AS f
	WHERE e.server IN ('newsletter', 'webshop') AND calls > 3 ON CONFLICT DO NOTHING;
	INSERT INTO contactsync.minute_failure
	SELECT endpoint, at, reason, n FROM contactsync.minute,
		LATERAL (VALUES ('invalid_email', failed - failed / 4 - failed / 9), ('refused', failed / 4), ('mapping_error', failed / 9)) AS r (reason, n)
	WHERE n > 0 AND at < now() - interval '10 min' ON CONFLICT DO NOTHING;
	UPDATE contactsync.endpoint SET state = 'halted', reason = 'unauthorized: the key was revoked', since = now() - interval '40 min',
		until = now() + interval '5 min' WHERE server = 'webshop';
	INSERT INTO buyers SELECT g, format('b%s@example.com', g) FROM generate_series(6, 1250) g;
	UPDATE contactsync.queue SET queued_at = now() - interval '40 min';
	UPDATE contactsync.contact SET held = true WHERE key IN ('1', '2', '3') AND upsert_key NOT LIKE '%@%';
	UPDATE contactsync.source_row SET withheld = true WHERE key IN ('4', '5') AND upsert_key LIKE '%@%';
	INSERT INTO contactsync.scan (endpoint, watch, kind, phase, total, done, started_at, updated_at)
	SELECT endpoint, id, 'import', 'comparing', 20000, 8000, now() - interval '40 s', now() FROM contactsync.watch WHERE source = 'quiet'::regclass;
	UPDATE contactsync.counter SET synced = 1204331, unchanged = 90210, failed = 311 WHERE synced = 60;
	ANALYZE;
});
my $html = report();

if ($pictures)
{
	# as if there were a worker; the same day without any trouble, and as it is
	my $worker = q{BEGIN; CREATE OR REPLACE FUNCTION contactsync.worker_state() RETURNS text LANGUAGE sql AS $$SELECT 'running'$$;};
	my $trouble = write_file("$dir/trouble.html", $node->safe_psql('postgres', "SET client_min_messages = error; $worker SELECT contactsync_report()"));
	my $file = write_file("$dir/report.html", $node->safe_psql('postgres', qq{SET client_min_messages = error; $worker
		UPDATE contactsync.endpoint SET state = 'running', reason = NULL, until = NULL;
		DELETE FROM contactsync.queue; DELETE FROM contactsync.scan; DELETE FROM contactsync.failure; DELETE FROM contactsync.minute_failure;
		UPDATE contactsync.minute SET failed = 0, throttled = 0, retries = 0, backlog = CASE WHEN calls > 30 THEN calls END,
			latency = ARRAY[0, 0, 0, calls / 5, calls / 3, calls / 3, calls / 9, calls / 40, 0, 0, 0, 0, 0];
		UPDATE contactsync.counter SET failed = 0;
		SELECT contactsync_report()}));
	my $page = '<!DOCTYPE html><meta charset="utf-8"><body style="margin:0;padding:16px 20px;background:#fbfbfc;color:#17202a">'
	  . '<pre style="margin:0;font:13px/1.35 \'DejaVu Sans Mono\',monospace">';

	browse($file, "--screenshot=$pictures/report.png", '--window-size=1100,1120');
	browse($trouble, "--screenshot=$pictures/report-trouble.png", '--window-size=1100,1480');
	browse($file, "--screenshot=$pictures/report-dark.png", '--window-size=1100,1120', '--blink-settings=preferredColorScheme=0');
	browse($file, "--screenshot=$pictures/report-narrow.png", '--window-size=500,1300');
	foreach my $statement (
		'SELECT server, source, state, since::timestamp(0), until::timestamp(0), backlog, synced, failed FROM contactsync.status;',
		"SELECT server, state, reason, hint FROM contactsync.status WHERE state = 'halted' \\gx",
		"SELECT server, source, kind, phase, done, total, percent FROM contactsync.progress WHERE kind = 'import';",
		'SELECT server, source, key, reason, field, message FROM contactsync.failures;',
		"SELECT server, at::timestamp, calls, throttled, synced, failed, reasons, backlog FROM contactsync.history\n"
		. "WHERE server = 'newsletter' AND failed > 0 ORDER BY at DESC LIMIT 5;")
	{
		my ($status, $out, $err) = $node->psql('postgres', $statement, extra_params => [ '-P', 'tuples_only=off', '-P', 'format=wrapped', '-P', 'columns=128' ]);
		$page .= "<b>=&gt; " . ($statement =~ s/&/&amp;/gr =~ s/</&lt;/gr =~ s/>/&gt;/gr) . "</b>\n" . ($out =~ s/&/&amp;/gr =~ s/</&lt;/gr) . "\n\n";
	}
	browse(write_file("$dir/psql.html", $page), "--screenshot=$pictures/psql.png", '--window-size=1060,810');
}

my ($narrow, $wide) = look($html, 400, 1400);

foreach my $page ($narrow, $wide)
{
	cmp_ok($page->{scroll}, '<=', $page->{width}, "nothing exceeds the width of $page->{width} pixels");
	is_deeply($page->{outside}, [], 'nothing is cut off');
	is($page->{small}, 0, 'the text of charts is legible');
}
is($wide->{active}, 0, 'there is no script, link, picture or form');
unlike($html =~ s/&[^;]*;//gr, qr{https?:|//|url\(|\@import}i, 'there is no reference to another location');
is($wide->{unnamed}, 0, 'each chart has a title and a description');
my %seen;
is_deeply([ grep { $seen{$_}++ } @{ $wide->{ids} } ], [], 'ids are unique');
like($wide->{text}, qr/times in Europe\/Madrid \(CES?T\)/, 'the time zone is named');
is_deeply([ map { "$_->{name}: $_->{state}, $_->{charts}" } @{ $wide->{servers} } ],
	[ 'webshop: halted, 3', 'newsletter: idle, 3', 'test account: running, 0' ], 'each server has its state, and charts if there were calls; what is not well comes first');
like($wide->{servers}[1]{hint} // '', qr/shared_preload_libraries/, 'the hint is shown');
like($wide->{servers}[0]{hint}, qr/ALTER USER MAPPING/, 'the hint of a halted server is shown');
like($wide->{text}, qr/unauthorized: the key was revoked/, 'the reason is shown');
is_deeply($wide->{servers}[2]{scans}, ["public.quiet|import|comparing|8,000|20,000|40.0 % 40.0\x{a0}%|200"], 'a running import is shown');
is(join(', ', map { @{ $_->{consent} } } @{ $wide->{servers} }[ 1, 0 ]),
	sql(q{SELECT string_agg(format('public.%s %s %s', source, held, withheld), ', ' ORDER BY server) FROM contactsync.status WHERE source::text IN ('customers', 'buyers')}),
	'... held consent and withheld contacts are those of SQL');
like(sql(q{SELECT string_agg(format('%s %s', held, withheld), ', ' ORDER BY server) FROM contactsync.status WHERE source::text IN ('customers', 'buyers')}), qr/^3 0, 0 2$/, '... there are some');
like($wide->{text}, qr/There were no calls in this period/, 'a period without calls is described');

is($wide->{heading}, '3 servers, 1 not well', 'all servers are in a table at first');
is(join("\n", map { join '|', (split /\|/)[ 0, 1, 2, 4, 5, 6, 9 ] } @{ $wide->{all} }),
	sql(q{SELECT s.state, s.server, s.backlog, s.failures, coalesce(h.synced, 0), coalesce(h.failed, 0), CASE WHEN s.state = 'halted' THEN s.reason END
		FROM contactsync.status s LEFT JOIN (SELECT server, sum(synced) AS synced, sum(failed) AS failed FROM contactsync.history GROUP BY 1) h ON h.server = s.server
		ORDER BY s.state <> 'halted', s.server}) =~ s/(?<=\d)(?=(\d{3})+\|)/,/gr, '... with the figures of SQL');
foreach my $server ($wide->{servers}[1], $wide->{servers}[0])
{
	my $name = $server->{name};

	is(join('|', @{ $server->{tiles} }),
		sql(qq{SELECT sum(h.synced), sum(h.failed), sum(calls), sum(throttled), (SELECT sum(backlog) FROM contactsync.status WHERE server = '$name')
			FROM contactsync.history h WHERE server = '$name'}), "the figures of $name are those of SQL");
	is(join("\n", sort @{ $server->{reasons} }),
		sql(qq{SELECT format('%s=%s', key, sum(value::int)) FROM contactsync.history, jsonb_each_text(reasons) WHERE server = '$name'
			GROUP BY key ORDER BY 1}), 'and the reasons');
	my ($synced, $failed) = (0, 0);
	$synced += $_->[2] =~ s/,//gr, $failed += $_->[3] =~ s/,//gr foreach @{ $server->{data} };
	is("$synced|$failed", join('|', @{ $server->{tiles} }[ 0, 1 ]), 'the table of the charts adds up to the totals');
}
unlike($html =~ s{<style>.*</style>}{}sr, qr/example\.com|\@/, 'the page contains no address');
is(join(' ', sort map { $_->[3] } @{ $wide->{failures} }), '(address) 7001 7002', 'failures are identified by their keys');
my ($personal) = look(report('personal => true'), 1400);
like($personal->{text}, qr/key\@example\.com/, 'addresses are shown on request');
is($personal->{scroll}, 1400, 'the width is not exceeded then');

# ---------- hostile texts ----------

$node->safe_psql('postgres', qq{
	UPDATE contactsync.failure SET key = $hostile_sql, reason = $hostile_sql, field = $hostile_sql, message = $hostile_sql, upsert_key = $hostile_sql WHERE key = '7001';
	UPDATE contactsync.endpoint SET reason = $hostile_sql WHERE server = 'webshop';
	ALTER SERVER newsletter RENAME TO "<b>mail</b> & co";
	UPDATE contactsync.endpoint SET server = '<b>mail</b> & co' WHERE server = 'newsletter';
	ALTER TABLE customers RENAME TO "</td><script>alert(1)</script>";
	UPDATE contactsync.minute_failure SET reason = $hostile_sql WHERE reason = 'refused';
});
my ($strange) = look(report('personal => true'), 1400);
my $plain = $hostile =~ s/\x{202e}/\x{fffd}/r;
is($strange->{active}, 0, 'names and messages create no elements');
is($strange->{servers}[1]{name}, '<b>mail</b> & co', 'the name of a server is text');
like($strange->{servers}[1]{watches}[0], qr{</td><script>alert\(1\)</script>}, 'the name of a table is text');
is((grep { $_ eq $plain } map { @$_ } @{ $strange->{failures} }), 5, 'the message of a failure is text, and does not change the text direction');
ok((grep { /^\Q$plain\E=/ } @{ $strange->{servers}[1]{reasons} }), 'reasons are text');

# ---------- periods, roles, encodings ----------

my ($hour) = look(report(q{'1 hour'}), 1400);
is($hour->{servers}[0]{tiles}[0],
	sql(q{SELECT sum(synced) FROM contactsync.history WHERE server = 'webshop' AND at >= now() - interval '1 hour'}), 'another period');
like(($node->psql('postgres', q{SELECT contactsync_report('1 second')}))[2], qr/period must be between 10 minutes and 1 year/, 'the period is limited');
sql('CREATE ROLE regress_reader');
like($node->safe_psql('postgres', 'SET ROLE regress_reader; SELECT contactsync_report()'), qr/Nothing is sent to any of your servers/, 'a role sees its own data');
sql('CREATE SCHEMA mean; CREATE FUNCTION mean.sum(bigint) RETURNS int LANGUAGE sql AS $$SELECT 1/0$$');
is(sql(q{SET search_path = mean, pg_catalog, public; SELECT length(contactsync_report()) > 1000}), 't', 'it works with any search_path');
sql(q{CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'});
$node->safe_psql('latin', q{CREATE EXTENSION contactsync; CREATE SERVER "caf}.chr(0xe9).q{" FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'owlat');
	CREATE USER MAPPING FOR CURRENT_USER SERVER "caf}.chr(0xe9).q{" OPTIONS (api_key 'lm_live_unused'); SELECT contactsync_pause(name(srvname)) FROM pg_foreign_server});
my $latin = $node->safe_psql('latin', 'SELECT contactsync_report()');
like($latin, qr/caf&#233;/, 'the page is ASCII in any encoding');

$node->stop;
done_testing();
