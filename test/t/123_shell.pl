# test/demo.sh --shell: psql on a throwaway server, with a server for each simulated provider, and nothing of it left behind.
use strict;
use warnings;

use FindBin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

# Type statements into the shell; return its output and what it says.
sub type
{
	my ($sql) = @_;
	my ($stdout, $stderr);
	# the extension is installed where the tests run; building it again would take long
	my $ok = IPC::Run::run([ "$FindBin::RealBin/../demo.sh", '--shell', '--installed' ], '<', \$sql, '>', \$stdout, '2>', \$stderr);

	ok($ok, 'the shell ends well') or diag $stderr;
	return ($stdout, $stderr);
}

my %contact = (
	caramel => '{"email": "jane@example.com", "opt_in": true}',
	campaignlark => '{"email": "jane@example.com", "opt_in": true}',
	mailingcore => '{"email": "jane@example.com", "external_id": "7"}',
	owlat => '{"email": "jane@example.com", "opt_in": true}',
	spotzee => '{"email": "jane@example.com", "external_id": "7", "opt_in": true}');

my ($stdout, $stderr) = type(join('', map { "SELECT contactsync_upsert('$_', '$contact{$_}');\n" } sort keys %contact) . q{
CALL contactsync_wait(NULL);
\pset format unaligned
SELECT 'has', * FROM sandbox.contacts;
SELECT 'can be mailed', provider, mailable FROM sandbox.people;
SELECT 'received', provider, method, status, count(*) FROM sandbox.requests GROUP BY 2, 3, 4;
SELECT 'worker', worker, count(*) FROM contactsync.status GROUP BY 2;
SHOW data_directory;
DO $$ BEGIN RAISE NOTICE 'notices are shown'; END $$;
});

unlike($stderr, qr/ERROR/, 'there is no error') or diag $stderr;
like($stderr, qr/NOTICE: +notices are shown/, 'notices are shown');
foreach my $provider (sort keys %contact)
{
	like($stdout, qr/^    .*\b$provider\b/m, "it says that there is a server $provider");
	like($stdout, qr/^has\|$provider\|jane\@example\.com\|\{/m, "$provider has the contact");
	like($stdout, qr/^can be mailed\|$provider\|[tf]$/m, "and it is known whether she can be mailed");
	like($stdout, qr/^received\|$provider\|POST\|20[01]\|/m, "its requests can be selected");
}
like($stdout, qr/^worker\|running\|5$/m, 'a worker delivers');
like($stdout, qr/SELECT \* FROM sandbox\.contacts;.*\\q ends/s, 'it says how to look at what the providers have, and how to leave');
my ($directory) = $stdout =~ m{^(/tmp/contactsync\.[^/]+)/data$}m;
ok(defined $directory, 'the server is in a temporary directory');
ok(!-e $directory, 'which is gone');

done_testing();
