# Run the five-minute tour of README.md, statement by statement, as a reader would.
use strict;
use warnings;

use ContactSync;
use FindBin;
use Test::More;

open my $file, '<:encoding(UTF-8)', "$FindBin::RealBin/../../README.md" or die "README.md: $!";
my $readme = do { local $/; <$file> };
my @blocks = $readme =~ /^```sql\n(.*?)^```$/gms;
cmp_ok(scalar @blocks, '>=', 8, 'the tour contains statements');

my $node = start_node();
my $sandbox = start_sandbox();
my $url = $sandbox->url . "/mailingcore";

my $output = '';
foreach my $block (@blocks)
{
	# a reader uses the real provider; this test uses the sandbox
	$block =~ s/(provider 'mailingcore',)/$1 base_url '$url',/;
	my ($stdout, $stderr);
	my $code = $node->psql('postgres', $block, stdout => \$stdout, stderr => \$stderr, on_error_stop => 1);
	my ($first) = $block =~ /^(\w+ \S+ ?\S*)/;
	is($code, 0, "$first ...") or diag $stderr;
	$output .= "$stdout\n";
}

like($output, qr/^POST\|\S+\/contacts\/bulk\|\{"contacts":\[\{"email":"jane\@example\.com"/m, 'the preview shows the request');
like($output, qr/^new\|\|1$/m, 'the dry run counts the rows to import');
like($output, qr/^mail\|customers\|idle\|0\|[34]\|1$/m, 'status before the row is fixed; John may have been sent twice');
like($output, qr/^3\|invalid_email\|/m, 'the failure is listed');

my %contacts = map { $_->{email} => $_ } @{ $sandbox->contacts('mailingcore') };
is_deeply([ sort keys %contacts ],
	[ 'amy@example.com', 'jane@example.com', 'john@example.com', 'mira@example.com', 'nobody@example.com' ],
	'all contacts arrived');
is($contacts{'jane@example.com'}{attributes}{plan}, 'TEAM', 'the mapping was applied');
is($contacts{'john@example.com'}{attributes}{plan}, 'PRO', 'the newest value arrived');

done_testing();
