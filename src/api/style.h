/*-------------------------------------------------------------------------
 *
 * style.h
 *		How a page looks: on paper and screens light and dark, narrow and wide.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_API_STYLE_H
#define CS_API_STYLE_H

#define CS_STYLE_DARK \
	"--page:#0d1117;--card:#161b22;--ink:#e6edf3;--soft:#9aa7b4;--line:#2d3540;--grid:#252c36;" \
	"--synced:#4c94f0;--failed:#f0685d;--fast:#3fb6a0;--slow:#b58cf5;--waiting:#d6a13c;" \
	"--good:#57b96b;--warn:#d6a13c;--bad:#f0685d;--calm:#8b98a5"

#define CS_STYLE \
	":root{--page:#f4f6f8;--card:#fff;--ink:#17202a;--soft:#5b6773;--line:#dde2e8;--grid:#e8ecf0;" \
	"--synced:#2f6fd0;--failed:#cf3a30;--fast:#0f8a76;--slow:#8250df;--waiting:#b3780b;" \
	"--good:#1a7f37;--warn:#8f5f00;--bad:#c02b22;--calm:#5b6773}\n" \
	"@media screen and (prefers-color-scheme:dark){:root{" CS_STYLE_DARK "}}\n" \
	"*{box-sizing:border-box}\n" \
	"body{margin:0 auto;max-width:1320px;padding:28px 24px 40px;background:var(--page);color:var(--ink);" \
	"font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue','DejaVu Sans',sans-serif;" \
	"font-variant-numeric:tabular-nums}\n" \
	"h1{font-size:26px;line-height:1.2;margin:0 0 4px}h2{font-size:20px;margin:0;overflow-wrap:anywhere}\n" \
	"h3{font-size:14px;margin:0 0 8px}p{margin:0}\n" \
	".soft,caption,th,.unit{color:var(--soft)}small,.soft{font-size:13px}\n" \
	"header{margin-bottom:20px}\n" \
	"section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px 22px;margin:0 0 20px}\n" \
	".name{display:flex;flex-wrap:wrap;gap:6px 12px;align-items:center}\n" \
	".pill{display:inline-block;border:1px solid;border-radius:99px;padding:0 10px;font-size:13px;font-weight:600;white-space:nowrap}\n" \
	".good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}.calm{color:var(--calm)}\n" \
	".note{margin-top:10px;padding:8px 12px;border-left:3px solid;background:var(--page);border-radius:0 6px 6px 0}\n" \
	".note p{color:var(--ink);overflow-wrap:anywhere}code,.hint{font-family:ui-monospace,'DejaVu Sans Mono',monospace;font-size:12.5px}\n" \
	".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(128px,1fr));gap:10px;margin:16px 0 0}\n" \
	".tiles div{border:1px solid var(--line);border-radius:8px;padding:9px 12px;min-width:0}\n" \
	".tiles dt{font-size:12.5px;color:var(--soft)}.tiles dd{margin:0;font-size:21px;font-weight:650;line-height:1.3}\n" \
	".tiles dd small{display:block;font-size:12px;font-weight:400;color:var(--soft)}\n" \
	"dl{margin:0}\n" \
	".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));gap:22px;margin-top:22px}\n" \
	".charts>*,.tables>*{min-width:0}figure{margin:0}figcaption{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 12px;margin-bottom:6px}\n" \
	"figcaption h3{margin:0}.legend{font-size:12.5px;color:var(--soft)}.legend i{display:inline-block;width:10px;height:10px;border-radius:2px;margin:0 4px 0 10px}\n" \
	"svg{display:block;width:100%;height:auto;overflow:visible}svg text{font-size:11px;fill:var(--soft);font-family:inherit}\n" \
	".grid{stroke:var(--grid)}.axis{stroke:var(--line)}path{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}\n" \
	".fill-synced{fill:var(--synced)}.fill-failed{fill:var(--failed)}.fill-fast{fill:var(--fast)}.fill-slow{fill:var(--slow)}.fill-waiting{fill:var(--waiting)}\n" \
	".line-fast{stroke:var(--fast)}.line-slow{stroke:var(--slow)}\n" \
	".back-synced{background:var(--synced)}.back-failed{background:var(--failed)}.back-fast{background:var(--fast)}.back-slow{background:var(--slow)}.back-waiting{background:var(--waiting)}\n" \
	".empty{padding:22px 12px;text-align:center;color:var(--soft);border:1px dashed var(--line);border-radius:8px}\n" \
	".tables{display:grid;grid-template-columns:minmax(0,1fr);gap:22px;margin-top:22px}\n" \
	".wide{overflow-x:auto;position:relative}\n" \
	"table{border-collapse:collapse;width:100%;font-size:13.5px}caption{text-align:left;font-size:13px;padding-bottom:4px}\n" \
	"th{font-weight:500;text-align:left;font-size:12.5px}td,th{padding:5px 14px 5px 0;border-bottom:1px solid var(--grid);vertical-align:top}\n" \
	"tbody tr:last-child>*{border-bottom:0}td,th{overflow-wrap:break-word}tbody th{color:var(--ink)}\n" \
	".n{text-align:right;white-space:nowrap}.time{white-space:nowrap}.key{max-width:26em;overflow-wrap:anywhere}\n" \
	".bars td:last-child{width:60%}.bar{display:block;height:12px;min-width:2px;border-radius:3px;background:var(--failed);margin-top:4px}\n" \
	"details{margin-top:16px}summary{cursor:pointer;color:var(--soft);font-size:13px}details table{margin-top:8px}\n" \
	"progress{accent-color:var(--synced);width:120px}footer{color:var(--soft);font-size:12.5px;overflow-wrap:anywhere}\n" \
	"@media (max-width:520px){body{padding:16px 10px}section{padding:14px 13px;border-radius:10px}.tiles{grid-template-columns:repeat(2,minmax(0,1fr))}}\n" \
	"@media print{body{max-width:none;padding:0;background:#fff;font-size:12px}section{border:0;padding:0 0 12px;break-inside:auto}" \
	"figure,.tiles,tr,.note{break-inside:avoid}.wide{overflow:visible}details:not([open]){display:none}" \
	"*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}\n"

#endif							/* CS_API_STYLE_H */
