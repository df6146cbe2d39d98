# Run the tour of README.md, statement by statement, as a reader would: what is for test/demo.sh --shell, with what that
# prepares (t/123_shell runs the script itself), and what is for an account.
use strict;
use warnings;

use ContactSync;
use FindBin;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $readme = PostgreSQL::Test::Utils::slurp_file("$top/README.md");
my ($tour, $account) = $readme =~ /^## Five minutes\n(.*?)^### The same with your account\n(.*?)^## /ms or die 'README.md has other sections';
my @tour = $tour =~ /^```sql\n(.*?)^```$/gms;
my @account = $account =~ /^```sql\n(.*?)^```$/gms;
cmp_ok(scalar @tour, '>=', 8, 'the tour contains statements');
is(scalar(() = $readme =~ /^```sql$/gm), @tour + @account, 'all statements of README.md are run');

my $node = start_node();
my $sandbox = start_sandbox();
$node->safe_psql('postgres', PostgreSQL::Test::Utils::slurp_file("$top/test/demo/servers.sql"),
	extra_params => [ '-v', 'sandbox=' . $sandbox->url ]);

my $output = '';

sub type
{
	my ($dbname, $block) = @_;
	my ($stdout, $stderr);
	my $code = $node->psql($dbname, $block, stdout => \$stdout, stderr => \$stderr, on_error_stop => 1);
	my ($first) = $block =~ /^(\w+ \S+ ?\S*)/;

	is($code, 0, "$first ...") or diag $stderr;
	$output .= "$stdout\n";
	return;
}

type('postgres', $_) foreach @tour;

like($output, qr/^POST\|\S+\/contacts\/bulk\|\{"contacts":\[\{"email":"jane\@example\.com"/m, 'the preview shows the request');
like($output, qr/^4\|new\|\|claimed if the provider does not know the person\|\{"contacts":\[\{"email":"amy\@example\.com"/m, 'also for a row');
like($output, qr/^new\|\|1\|1\|\{4\}\|$/m, 'the dry run counts the rows to import');
like($output, qr/^mailingcore\|customers\|idle\|0\|[34]\|1$/m, 'status before the row is fixed; John may have been sent twice');
like($output, qr/^3\|invalid_email\|/m, 'the failure is listed');
like($output, qr/^john\@example\.com\|\{.*"plan": "PRO"/m, 'what the provider has can be selected');
like($output, qr/^mailingcore\|amy\@example\.com\|t\|claim\nmailingcore\|jane\@example\.com\|t\|claim\nmailingcore\|john\@example\.com\|f\|never$/m,
	'and who can be mailed by whose word');

my %contacts = map { $_->{email} => $_ } @{ $sandbox->contacts('mailingcore') };
is_deeply([ sort keys %contacts ],
	[ 'amy@example.com', 'jane@example.com', 'john@example.com', 'mira@example.com', 'nobody@example.com' ],
	'all contacts arrived');
is($contacts{'jane@example.com'}{attributes}{plan}, 'TEAM', 'the mapping was applied');
is($contacts{'john@example.com'}{attributes}{plan}, 'PRO', 'the newest value arrived');

# the account, at the sandbox instead of the real provider
my $url = $sandbox->url . '/mailingcore';
$sandbox->config('mailingcore', { account => 'clx123', keys => { 'mc_live_...' => { scopes => [ 'contacts:read', 'contacts:write' ] } } });
$node->safe_psql('postgres', 'CREATE DATABASE account');
type('account', s/(provider 'mailingcore',)/$1 base_url '$url',/r) foreach @account;
# "Everything else is as above"
type('account', s/'mailingcore'/'mail'/gr) foreach grep { !/sandbox\./ } @tour;
is(scalar @{ $sandbox->contacts('mailingcore', account => 'clx123') }, 5, 'the same arrives with another account');

done_testing();
