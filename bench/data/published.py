"""Recognise published versions of PTB-XL, and parts of them."""

from __future__ import annotations

import base64
import hashlib

from bench.data.records import Records

NUM_RECORDS = {"1.0.1": 21_837, "1.0.2": 21_801, "1.0.3": 21_799}
"""Number of records, from each version's page on PhysioNet."""
CHANGES = (
    "from 1.0.1 to 1.0.3, 38 records were dropped (36 of them in 1.0.2), the labels of 13 corrected and ages above 89 "
    "set to 300"
)


def version_of(records: Records) -> str:
    """In words: a published version, a part of one, what it resembles, or that it is synthetic.

    A part is recognised by a checksum of 8 bits a record, so an edited record passes for the published one in 1 of
    255 cases: what keeps results apart is the fingerprint of a task, which is exact.
    """
    if records.dataset != "ptb-xl":
        return f"{records.dataset}, of which no version is known here"
    if records.synthetic:
        return "synthetic, no PTB-XL"
    if version := records.versions.get(records.content[:8]):
        return version
    same = num_as_published(records)
    if same == len(records):
        return f"a part of 1.0.3: {same:,} of its {NUM_RECORDS['1.0.3']:,} records"
    for version in ("1.0.1", "1.0.2"):
        if len(records) == (num := NUM_RECORDS[version]):
            return f"by its number of records {version} ({num:,}); {CHANGES}; `bench data download` gets 1.0.3"
    return (
        f"no version known here: {len(records):,} records, {same:,} of them with the patient, fold and statements "
        f"that 1.0.3 ({NUM_RECORDS['1.0.3']:,} records) gives them"
    )


def num_as_published(records: Records) -> int:
    """Count records whose checksum of patient, fold and statements is that of version 1.0.3."""
    published = base64.b85decode("".join(_CHECKSUMS.split()))
    return sum(
        0 < ecg_id < len(published) and published[ecg_id] == checksum(line)
        for ecg_id, line in zip(records.ecg_id.tolist(), records.lines(), strict=True)
    )


def checksum(line: str) -> int:
    """Return a checksum from 1 to 255 of a record's line in `Records.content`; 0 marks an unused ecg_id."""
    return hashlib.sha256(line.encode()).digest()[0] % 255 + 1


_CHECKSUMS = """
00A00-&uyph|2LApW^{odu3*dj~_m$vS5##$OXQ5+?pH4nxnv=8E6#`1d%W5*(W<0++PpC(rrP{q$t|u?ikP(d7s2YLjM&?w<Dx;dT3KmZk2TN4h(a@@
R6s*GZq_OK8on1+zIZmnFBSlRI=Fxl#SvDRR+ky9<-is{vC`a*B9~8umD~F00000cmQ1urWTO9)KJ|j>F^?hI`1@z6PGLQR$iS6J%Yf^Yj8y*a_!no)I
=i*bI#d`DRGqCz>VInN*z~TKYm0qheA98l6`B*xmP7prB^EN3_%^v<(dDO9}1Wc{G2_O+Np~s1hX}u+@zIjH&oHz!D(k~Y{n7}gZKN&fY_b=kM15M6Hc
v_g8>IwZUxV2eW85MLtXbV>BA5=g25Od{^Qr_tHeEGJ`iEPE5Ef~fg}dtL#@HduBc*@B0!~djst4q^!irA{Ew|G#Yn$U29Ju-Jk|Tcr^Al@k|RIk_K;k
rmajs>Xh%3Gej1wX%sK>4BgV*&uov5Js$h{pepLzKge!PR3RSg@WUQJ-Wn>cB>jO{9Xfx5Fff&Mf2Yd#8ui9mk-s<etc+{MniW68^khu>O0Q~>}LI42$
P}fr;<UAHm`IH4JFm<yHu~2+T%zIbyI;8nP5)-Ksjnr>H5q+VWoAmiXUK|R-hTwtb?P*$VNbDf*j8-pctj8km%2#MVHUf$pcQ0>6AeLH^QN$MpXf*eFp
yF!i3-w@8AOUvXRh&peT1%0K#Vm`0QMPv&z1^6U+We*x(*}&ZX%>4eo)0<>nu!^f4`+aH!Z_EGfFy!O><0Nal_?_GQTxFO0S4bcqvDH!%+~0Yz$m;hiU
AT$q~xPfwJ~?cxTE;zY@zLCQW9evZ4Kf`eOOm&+Zv$w5Nq=Z74>n*BU&@-RH;>nh~O?LrI9~izFBx7r{|0TPDf4z5S?pnhNsO{3jxqh({e)l3|kRC27*
A-(?;NgCEmRVxrS_B?q#HvfO)zCNRmd64}DFI{-c@<kOXk$u7~wPdC=KMN>lVDGLa6D1X9z6=R|!8hV>x8Y?)6`e74hUT5cG#KT$9C)i=)ivHa!sRfD)
XnF5?~?Dbb9PoST=6*`N$=gFBfjBr1dj7%9R1mN@R8Lh;L21rtpebGU0)wHOWoG*Sw*6?G)m84vphMB`uYgKM|=4R<pVT1<1x;^gODe@+W+BC3PN5}-f
_Q(bl8}-6yIQk4QU;39gVlcyklPjOlY7N>hIZ8bikx^Px5z$l^JOy75;ridU%9p-ZHxh@pT54OG<(DrhIgbq2$ExDQ`nFxKhJm6|OpU@jD$P5fj!;4fJ
)f*8K9lBk8PcOisiyvT-V8z}(~%FMsIwF9w;x#?)tm`4+X690mIY+kE!l2E0@!-I9|ntZ2mY0d|KXjAS#^&#=FRp|gM@QE-WNu@h8R+IXt23>DT%p7E3
51kjYt~g{R_k+_-RJJuHa)&wG+O=3<|p4oq#1}L^M0sm}8UP8v5eu-rb(X!Yz%@XS5@^Qs3k3Q2KX`KL`zA#eg}48n5}EF-ut6e|(qTdB&e;3KWwl_R_
Wo4teWppyI{}zaC!1ooV0BJe5h5GJ7gov!`pC-5Hq|iFOOCz5-tZl)$N1e3DAALF}MJs}Y|0ws%;69E3z(#I(v*)~{Q$X6xBgr;0K#gGuPoCDkz%Xr|-
OEwIKQ1L-d=b(P^lq`Ph9CI-8s`*e&~O$Fn439O?lj=rr}pvk)__b{I5Z0TKWf-xly_LU29m@*1Rh+DTQt-aHV%z8><-o>WFAE`1hBMkbsg~90Po2{%Q
$y!O;Lax02hykE5jg9*OkJ5C}EXMRF=M<glM*SeHS(tkW*-AKC*_pm;rG0NwLaa#+PE^V~v7&4}=+w97$DguVMO#TH^Y^|{-Gvfso_U0=paa$|?-Pkff
><hjEknQuyA<IOJM)5aFM0nQ>-^}f+kC>{a^_S;yXG6U9!ml*CNniEvOEO!i<0yM++-hA?%sGjf0l_J<(F6C%W2fzi%0PK1{N$(#Vbetz-hWJr5>&bQ0
(6$<mgn$zI7<N_J^(={%|VvBI*I4fFkn@Pm-!d?ksXnkH6(~+jrNie7dez8VKp|QLk2Tizehel<eVaMb32-l!dT{Ly8m8CKH#D2S9yeN>V`Lj;m7vsP-
@3&zO>GqSij}oHuu8e^D^v16<piwAR$8!2;;BW3<&y3z`Xdv}@%m<wV983~#Zw_jIU4;T3CY=4Esy<o>MKD#s2My*xcWkf02Yg*o}Yq$ew^`aB070c6%
hkR;yuE>YbPzw{WAg1R}I48vCX9QjTmEJC#l)sRNL$#ZY$nvS6Uz$qe*i;7jG(FuHt1B_R{omuv#V_U60sWW)Mrd>w%YnT66R|xy=@!wce*6jDm14rlm
q=;79>VY+%CqIiFbsSB`a#D}!*1LoEMph~7hn#FPR!WyLW>L)ZUhXRhu{?RNp`?5pvE*?LF|+6IalF%h*ft9(OHzr{i!kp~m=00HJV<a$Ho505w}RVQy
3AvC=9`$Zjk%lAfh9GD&tEW7K|+t>($O1Z&zu}0xQZ!k3#<L}GawTt2M`5YHBfE-eH0uxqSQVA#_uktwNA)eG`d7($NKg?q<bFF;V!cIY(m`pKI}v(Y1
aEZcn3N<+r?Z(hg+!E=V^QV`~^=<`^yLwkH~WwHoei9{z&XSc&hy|7C^OMVX=ZtT&I9oW!As(STvCxG9h0X2kb0QN0_crp%~zE8oS0ys~D5~=@D5&cGp
GgE%Fh{Bx=;U>AA<pMCkvFb51_y)3BGdWjL3SYkL7m5&Wc!LD&BUad#tnkM}XLsfs`Mz2U@!7KIJ2MB&tlR78zYd+KFmb$mxwmXFWOIuCMzznos?|H-j
7sI+SN7vslBy$apW%JD+7Kh>|I2xtaJyOalIrT>2$oSFDD;KHm^`i}@4vKiP<H%61u?tS+Bet?(|52fb6sn-$;fzrd^5M0lAm0fUHRkipob$BQ3MuRUy
ENp;T5^C|Cr3f!Cny*HUt0PO>sx#oDT2D`B5}VgmkMMI(RVM>?nx?6;6QjWpk4~PTH?iN6a3Wzn$Usgbv*5=Vxx*bP7~!QWA;V)OPP!kup_OzlJ>N`B=
eoQy6V}mwP(;Mv@Yz_LcqE9As*L`(G88S!m3(eZGFq$DVS&2l>82x#K8~5gb3o(8Ra^-jrU7_CAc8r-$RtgH;Ak^KTzkw|@6oh#SY?esw-plM*ZEn@q#
*#DfFL9Qv?>b3-$jxvh7)65-~l;}5cviHE@RJs_t!A}=6~sP4f|+WL;==%y}Mn*0TI(>8*t)fr*#%Jsawc}XdiTONwRMCy83@JKHVCbS&BB#!8M85;BC
F$4OC1!KkJN>xE0EFN#IxU4QeWX8FBp@i;Q1P6hgg<{so7ho($;~^*Hjt5kAu8A<-AAAKWH{NTz6d;E%CVUGe@zp)dU!qI*0(a6gwF{po8e_wQEA0mA1
XI3NA3-c>=aDuR(#x@&f27Y2dHO9DjVcrm5$9$2~b(i(?T)(KMl16-n`3tH!(nGPRUHRVmTTS)<e(!yHmW;Oqy5>adCdn<;m%p>2^(%M(W9Xqg*+wHdW
PNKeJf^I0yGVmcJ`fzIf(BPI=CcW-`*oAj9ck4jNJc)E?HAvI}Vx>Iom0fzu(ReIvbt?go;j;$xCvx!JmppRS+M`=BP{1rR*dj1gyb13T_ZFk|F_Qdo^
E*8Qc<mPr+bNqSj}?ek>IU<Y$h#@U<2z9bu8<UGuqQL28MHiCLL`EGB`qaV(<f9AFmG`Ahj41?3`>-qhmA>cj7d1P^0UwU{VG8g^Spc-8J4OB3Krj^(a
R{(E=V#owohH1c5w|q>;ce+i3p&hHIOAk&&`@9qXmO%dhPp}{!|uJtCn8{(0oM3FQ^CM0XZ#{0fl2V^Li$f`kgiq_`OhHo9`MPz}i5o#4f>8n#{0)`3z
I73wq2_>?0#2_`ac*|KL)kBN4LfEFo|K?;%v<(%87T4DSQj6_nm{v3X0z3>PY9MW$9~4HO8R3nB*p*KHho>66ks$vlm^K59P;LNlZ9GZk0fXtr*p-`c8
ztl#x@>)&g*@D<I$m=kvzb8H$39oGjfs2W_LzS7O>4%yVH3I_EI>=*%=3SgJo!bJ}nTim>@bqw5NR^7#&lr9ZxuIvNf^FhrVo+!^)H!4efV-m8JJBZl3
+pwOO2}0^bOCINgWr0YxuqP6gX58et>f26l(GqFS@rYtHtB8A_dk9Y3=p4@0*ztOma60H5eJ!%E6pMPljr!iIb@=4?H(=k)6Zy|&^lx34`sPl|dPNE&0
x?<5b`3-zmiC#01Q#0in*}v#u;zutmdV?+F+aP>Y6}gJOUkOc;^MovJk!4=m*?w!Ev<2fUhqoXwZndpt-^V}!4b3{%Z!xGE8pb*R&>00E$hIUZCN_A;E
do8cc33nMk$MS5-Sohj{Q23y>P0Syd$#O5P2Qi6pEsYu!*DDB@wPvFnlBK*ki=*{l5VjwrJ9W$U6>h|F9wb)E*GVC={MmRx3kFZO>1dRhC$%&&CkM74c
7-<pU_ndc)X<YARy_u1S`I8=kFLmnN)iYy^iH=j{kbmzB+y@~IW;F&mr5wl6Lsn~)gFFEv@)p5fwcb7dEV(sR)71@j9OD@V2hi4NpW_ow0q$ZnR!Qcql
BHF)aNb<#j^?HX?B2WTZ(EKFda(Yen@%jO0#aO>h>6}lw42jj#T6Shr=@0R;L5K_x1S?UdO_gY?20ePfs>l#Zwn}NqMfxMU(P0;xq&qLMjm<yn6eYYe?
!FXDk`i{CMgYFvw&K<cg`mVDz@yIQEj+TveL)0P!hlA0xZDsGac@gwxT2IAqyd%)?hCsc5MedF6zp$XbEm<q*($GOC5d_;(&2}+ERwa=D>d651004(s{
FTZFI0Yy0C>gw7(yW^&2Gw#{{i77-Ztc~E0BWfQyjE=uRdLDpaYm=9Utz%gx-5}8gPk>Exml$ZMouKN#1K!g)R(^Zz<#CDUrmEw&s&6AN~WIMG2HVQ`m
?u3U;zxehl!TE-lvw|8~K}<I^W*G4Nd-T_<#OQD;ALW=Y8HQgo?dIW4x?EpeY@{X8D(LrHJq(ESaU??W-QtRe4@Ma6&RrL@C+bw7wGKO}W(b|Kbb^=YB
=Nqq>6m`(4-~eKhyM<6PqPdz`+m_R)pXg#F+h9pbuZ7So}azZi^52~{ogE<l&>Coxiek;kDq?jp>ijt+#e4X7C6amA$_+9=J7;OjVz(QvD$n0MvJ$#x^
RrWa0rHhGn(k5z%NvyqgykExr}U~NT{!sQ{n>riHO1~Ly&p~IJg#T7XCb|AUZmqIW5?yxqyuz2V=NIb>uBad$8WD7BayFxk`dR|MP4_tb21ZEMPcq_o`
NuH{HA~?1@BQd|NRw>}*AxUw{jj;q>^;*#nBXexYmzJ{D&}eOWg2TW&Q!hu(s0IZ7l(tA|Skg+~rrMZCQs@Dzs+;>&cIY!^E~uZ2bAO_g_eEK1uyvuMr
LuuDc>ifEcN~tBy@icC#5&H_m*xWlv4+!vMU30j#`fZ}yr7Xd$CHv4Y>bgYBbwlSWB1j(Og<LO8fD{D8)SV&OKDxmWRtI=)kV=OR+-~?#kY%6sM55oex
Qf3qc*Z*Igu2z?sz>?hhK_sbxIE;nOJ9CA-M4LRm$Qb7(^S9{5e-<!c|EAa}6GOb*oH0skh(ts?qf*6jwJ}HnbkDL01;bJ*jgZK<>}2%?<YNtfk+1_>g
hSfei%1sBlh;-9(UnAdX>raf`0;Bdy2R77#~Hqx7yCVEeAMOTALYrLz>ViWcYTV1mng*s4yeZ$!Vz$*J|}cZnIIw4t6}w_4uWmUU}(^TXIcCF(D{k)?R
g)X8(#BYrVom;q|0KQ?IIHD<Pvte)g~(S3G65`~S8hmF7mv4G_P%`S>O;C{!<H4MM+t%dh!y>5M9vyzY&el)|PtjGUPn%XA24l0`H&m+VG7A%yX*!VA^
)Qwm~)n%Eq3G^gaBt}v`;s$kZfmX^1(-sM?y6rS@e3-2&TCV(Het4(8F;^>@JojNoeByx)g@h=|@PLYm!qeqLvj)<WgReRaO=dD=c6J&Y+os~N39)DI3
;nF6L>R$&_|x%V6oWSpfSKghj?j6{oB!&+ssR(?HN8a?IY`nM`DAS~FXK1#)PQM~e7IkoTEcV9kr9h$>2xb&!HFJ?&82VX=^uJV=K7kj<5S<?t+#Cp8~
A0tVL=g40_vqd_Fh1qZ71(w@2I%NLx3NC<dj(_6CpX)1NED2y0>uYvXZN*;pQCRN_>7g5ZL)lD}Fo1+jp|X)9ST15?Mv=d`+mnD}fP?N*F!gUn**5M;B
2x8?pJcIzb;|MyZ(ySjKZBQGM617*NrRHXa-H1(~O)A*s2)J<dl2vj-AA18JQ4?o(dzUj0M;ZX$K|E9DVPrdsX2l=2(${j~jM0^lO--VG+<h@lIG2ovf
yhDNqM2`XOUzB$3fRE2QM8V1{A8K&faAX%Z(XD469qwY{&s$I%$B)0r>Y&O}E#B}kUYz5dMS7n-J(Kw2z0li3RC?A-(MNF5jp_E#KKw?qt!t9pyyM@;;
B@IZ_zp5=pf1qO5JSwVdh42@&tNaQUjbN$g!B)9_MS*4Aw@_@1Mb?OP0YNw4bj;TM_6;mN^%ImnqYIM~%dIWl9bn1^3!dvA@bOV>7Q%0@$6UUH<XE4kA
iQ#x8bM2=IqL3lXvuNthP;JKNxC%C5um_)A^PfY28$s)7%K)<2S<f487{#{Z`iju|4~W>$h9h9eGjIgaXf>mGRgT^0RbSdPUbOXD{Q)^U3cV?*csG<fi
{kJyzpfi*E7U-^k*K1Nsz{*ElJSf%k{DFB`jBQxK&=ve4YUW+Oy5%Ct*}!t)jQ%a_KyEY}`CMMPn*@^uI@nJWva!7uC-0>uj*nSNdrbt9V8kN3br*4@)
N*STrcuXejC8glxTDS3ZapXC_ENo)$SQ0)XMxp>Xo)Hvy*UqWhZdJj6%@sSjRB*5HGR3`gY2s$x?hu5Qnqr7^iy*yi<$D&0lG<Q@~AiE{A`q5*yQc}P+
(xGqK3B@q>uXt{_xv+Kk_{S`64-H1$Ge7??1vls|b6boPbg<MG#&r@DI8tmoFlfd<rVnk?o{?b-RL1C>u*m=(-{kv1=5WOTx{|95a#>ey1Uzv6UsuN%>
y(HNUl)_giH?LG4^PvT#l+xwb2ILVeC|eA=t4UcPsrPLOMq|0m9`;eP(rJ{dzLspy^f+C_4rXs1?IC*QZ3goXti>!%o*ZF;+@4N^HcLAUrOHmLdtnU}<
dIjzm5;30=sQTGjJznBoxtjM6XyD8>jVC9q_f#F>OP3E8(hU48zQ%!>(4}I37na7lSw(4fI47A*aGiWtf$<Pp<=^m9em@ZDh+x$cBdL;9d0fY$fZzrAS
xrNyi#6sMTMCX5WgT+x0&EftFBxx=fQ@3)*c(13{%Q%oJFNG-!}$c8O##O?M73J<|DV!8>~c#0nP}WgaCE{bjCG3<C6%)V-w(YO;=iuF;`0^@E>s!3r3
-*2~{&GWfIgbILgme?1f~wo{pNJ?2b5duP>89a7{kGN|5wS8<85h+W`yme{#cqNxmua7%gpz?bkK?;;6KhB#8XABwU&Fa|GOlQW3oO0frLsA!{I@c1-(
~(M^UaA98w1{#|V&!$jnFiqSq$LD4s%1}w2HeFZ<Z&##vOY{(7&kS1chVNYHhG86~f<@=-;@TwSdd4A#~kKm`dp23x?VJ%h6$eAf$Hn02%z*$WwMW=ld
MYlY??r-Y>du6D(Un=B$N00~Wc>;WB&<&~F%e)n`PV4Rj(pd7P;&?iSQsS#C#%&)iSt3^|tau_<bW-=)wN1l>jEKYcl?aXPZ)l*u68`~{bOXc6FU*W0c
(kV2XVDGw(wLU=F{tY0Q1?N#+e9#{$1Sva8&_69oGIS9dIKo4QHsavtL-)mcc<;n#%8REW*^MoiSSN^8elbR33m57`1@c@5_vSCpjH2xK`Ns9TbUG+E9
EkB+~{%mw+#vvPo-T|zJp_bh%!8BKQ;HR_r|wt&C?}`Rh&EXDqUeHMYJdyw~Y$57#oB8NKOeP-d(YDrv$AkdbuUP;@J1u$R_8y91e@z7ub14(qEV{@k+
n1D3NVNH^+K|y)s8rTwl!GmPZ6_rj%u@-j->|9|T;8o>z$W`r;hCz(=uQ)glt~WZ&nxD@5Shu7z)q*w2)a5UENvJ7M6CPq)@GkF6NmMrx-od?w*<4Ymb
y@F-Gew5qKxgHBvNv`n)dS3uZ)aVCQ`sSK(zcpTBYP}@Mla?afW!<$Xe*HL~^^W*RQ!kP_Fj(1QKn!Wi8!zbby*W>zqSdk{oA?$zm(<XL2CogEs4Ngu?
Jizp~_+{jGyjb3ujDWaF9%DqkL9_-xtw1o3eibzOv=U*<F0WczayhaI=38^J-yA8SzG!TC$2|&@t5uOF`{7s5n>OZIld7BBXSt_nRE@^%)lgWiUpa`Bp
H$;)M{w^15yKJJeHT|TwXdT!AboIqXQCMBr>~HPUZlLN(ldUx(rlk1t4JPQkKU8|))Cz%C`j~6hXiVI6uVqEF4Jtwjs<J~X@-VeE55>}r{Dfdchr`qU{
2uZ9hoM4-pO_Mn3-+Vw9erA<EAg*(GB!~@4+DMm#)Y>NK7Lm;|~!Q^p;I8Brn`FVD!^0Y!PfY^~Kh;cGr@^wD3R6YM9F9nzslDw28D(<p=wB;$%Btpx&
kLjp*~89ezr;?lM($J}!mG0k3JX=;UlRtXt6FV%+Y{%)s;#hAPBajMj1?>_F3rS=Y^!)5n<irXD7=vvl80L8QOaumQkqDVqc+ybqbI@>LwK2`5Wwd<_U
T?blZBV=2-9hSDLK`V>sASII5N*qwtidNX2se7%qa%OW|=k6mkbgfo$?>-{={XET<$bS|i-LqLo?_%Cl+YTe@S74_p=9}+C=zlU_oIP><<kGlg-;p)<b
b+-*X=LPxa!5T2O5_xmz{wRbb0#3_Nz}<1=&da#QIh>VnT52R};Q@S#mPQT@@Y-GpVji3jTf6blKfpe`jNkFV5SZ~cR4MoYl(98F;QGFzGlo;!8)(R{V
v%8`DN%^=NI%R?NVkGGk8Ndr*iLak8sKco{gL?HAQpt2(#{<IjGRJZqj3QdvSL#>_C%{Nlg>FNg4~i)1G0!gwAGv`RcRweuJ4-aFc!d)5Jo1syHsrhxP
t$cc?4pDFNlDJS)!3<KaiZWAb{)#ju*FSrs<M}MMg9HS8*Kb&ryfkSm6|HhMf=r0UN~Q;Ulud6=QnlLQD?y4$AllJ0LL~*O><K3)(WgYJM<NcKg=sT}!
5_@)7Q7KDZ}c|CV@LLF_;3LZg;nwHnm8LA^7T8LUc_iq(lrD8OU|HcqUM@>Aq#_V4_bbjf5Is?+gHy|{UJSbm(;|BM(dpXuVf3_GWyAu0hC9*&Ns;wJJ
0r2#)c0SQ!Dcn^~dE7(~#A2RgYzB>QaFwPYEq4w4>DRDWOvF1Zc43z7cpP?Lp4k)<EfY-*SD&+khNi2(a<cr)gkpasL&;_0kpnkLgN@(&*^QfUoB~O$V
BB91St}7>Lf=2$)JL<xAdMjMl6!Vsd))p!i<eyE=cfH1p*6&oPi%?ukYwxPy2GK4YlnwbSbl&(Yo1jX@C$u>(F?*?oeURO(Rwa+tC91YmkcC}QB<{C<O
7gcTM7(x`H--TzQNDcV;<naz@0QG)sE8SZ_B*5jPCvNDQv&XL_se{?=sUciJ~ivX4^^Vmr9qcxDq*RTdpy?#yZ3<iJYiu0^4$q!qx2#!$>cY>NUW1717
f!$St4(LT({IxKr81Zws0a%^xy@hX;qg((Vl`evqBjo2lg?;Y<n0iSUV}x64FI+R5iX$NhyZmlRjhC{a%XJ%d@1g#z}iI2QlL(<bc)lt0>bHxlVz*5{6
-oS8L}o@QlvdK8=^*8%5gN_(8KxgmrqVp18sYX#yJ_%Vw%^IxfSTl69|iywCV*c;?CM7wy3()%r$dE%MwtuXWlDd)UAOcmSvXzhMB1r|yzw_vyCVOits
k-?RHq%lP4F$-#EA^>i&6R6?-^Z8`@D3alhX*3}x+cCt*oL6Y<jzgn#~Ngn%~Ty1;DT19V@y|5yd9lg4mq~5~MlUZBbK*IYIU^{e-@`SR(mOa?N4{9(f
a61U<HTQ}zm_|7{Vu(}Hgm4sn%nSt=abi)`I$FaP^$M~|;ER7o6ExN^ICt_m|65(8ViXRHnPYKBUY@AgL|>NHIm;=&)Oe_xL#H+z1fo)0l=l@Tndw>|K
L&#)e_j{^6{$)bh<eg4<3OkGspbrZ0oSI8FJJTX`<SKDB{h{r=WDqA6%&EK^%ornJ8s}{#}Z^UnFsE0UmcI?LQ2OAEx<u3JnRpTqN$O1g-+vJvQ()YBt
Faeq2Wn*As_l<brUnh>8fa#0(8GNVcIwe2~~?r+t3zG<IFpkbl6Hl?^9VMBkrC8eiP~#LZEjBKk9ixm6p0ZN#4BvJE#yVMe&cU#ma0X(k2-nmVIS1K3&
i-_J+-$GgqLuYBpU3>(27auxfaea;iU04uQ#cO|vi58XKiJO%q2?_yOAa(RHFDcQmyK&?*Syz(!lz5j>kUjf1PQu$^ZpK}bM0nWhT*Ubn@gqN%Bl@!i(
}C6bY@pSRy9v}$#fpBaBb*c-&BA1z}frycM@Yh5M2QKAFSDNR_J_?V?+qHhz}iA?SrP~3=0cS^jcJ$5UA6h%dbLW0;g-wRyU#goUBuXMNdXDW6r$W(S`
@#E!IUI<&fz*w5T$T3;>eRH4b&xTJuQ;s6$I8t({1EB?RaXiMi@;ca$=pUR~`2^-k&S}~dVR~m`K283Xrl4(c@P`V^SS?L!c*zFSLp`vZRF{P0pH!KHK
X}F{=XNH*RG3=1sZFNf-f5&VwoiM4@<JKc4dm;N=zQnrXQ8e31)qgGjLcERG_JsgN%cu%RDQwX34<TT7#O+n{E$eDROhtc3hVW>Z<`%*(ivPa)?#*ai$
C-wry390OWGSCG5ksG&zdJ~mr?kccvcMryIMTNcQ>v0vZ?szvx{HQ)o%rmxI)C1`TZyod8bn$XwUNa@^ZBGBC4^_-8E=fC*C%RIBB}U4E_B}_}Q+6wOT
UGv-tZivgew4dx`8hE*0Pkf7<v)fZ_;hi0%Pv<(0r3VI}72L-&HEx|ovu7bmDXQpCg)c7@`pKe`+st#{vU<R-t`k5`YUZxT)E!J*Wb%yUddd`cy<>LSd
tv;U-D_;mE88-Hsicd@vew)Fhj^kvJg`Q@AqYoeJIlq$k}N_cFl^{y(+RD#9e!Ao6}<-V(=`ff8S_N4IqmOH(%-Bon#No62L7M}qvIhvnJ=FkEKCF^9r
yeX}F;(25Aw}s5ZyOrAr_>m^a7=;Mqi%1)eY|NS~5%wDY7TUX03qeI-+d^|S$Ur9`Q`oIkFMvhmaKr6`!uFLl4c^vh?BlgW=%KZd>-3e@({z<aN)!TdT
jIIi<5JxlfnQQ^Z2R4M4JtaM-4dBZ8Z1+&L}5(rat{3)7-6oA(jNEb4ODZ$Ey&Ks81LxK_D}k)RcL=bAUNXqR(zTeXt40xTH;cC_+69B@BLwY-_m2+8$
d0FvHC+%%Vm!9?;Vh6C{X6fU9Ht|L{mlhJt=&+nr4wMaKMpZ(8_6qy00m4fL+bS-x2A<1ntvgpo2yDf#6*V6{!M4{uZ`K=4Ftg4v#V<r!VEivcN<(AEH
f^Pr>st>vZY8TpU$a{w@hm`_^cw{zPCmUyuIhTQWVeGs1X#?CV<-BRr(8m_^@3WX1$6y<S{~u+#G1;<C{2pthVXE>~bOo5p?09lS{3`Z>^;JM#epTJ%h
s5<hu7{)@$H*n7adzlOB$4BSGQYc^S<=qtnUiTY~&jETZgL(=Fu9s7SpW35QIl%jd;|DiaA_|DEY;qylANmtMz|JthHkW*Q8o|EB%%Yr9zZ`Z^37B+nI
?Ifb{vHjv);fK=~KPyM!@8Y&rZR1d$hZ+}`aJE(+^$;5OvM5d|9a!D-1ng<1_0eN<PsA@Op9ft*L24%Ik!qn@a_923dy8(zsfSr8>7<awsX(7C4*Vv`M
hH%+_~68CybhGChmNrRO<o_BVRs3^w*j{cxFfT%)inNHZHc={P){q+0;o4$f}V3;ml@m-Vm%?KS?90d_8(9eV7it&S*o_jdGq6n!Y*}r9=uXJQEfDf4i
>O43RaUAQC=0tL57M=kldnU9`_>z*)okj1+_<@eClMEuTW0of&Z)5xK%yC!+@;cjQ13Ly!)0e?jA=5Q}t+Kvtx}xwtR8>ct@6L642I_#w>`Go~t{d<L@
QHA18OOWAex$#h1YwKClP(H2wv{pEClMypjg$R;5KdY5P<Yq<Mw&xP+Q|@W&c0{v&?9G?EtVOD=J$y7CFn$AeZSZo`?r$hKJKx7s}^Qfc^jN4w?hN?;{
h63G9T$*x^Zk7M3r7I>g?dj@e$?JNaEfNHm6j)yx?W|MyD%=QF%qS~SXCh+aA{8g@|gJ4JqnhY#O-+5%Ox|MJjU6S)LpbI`QHqORQk#n7i0_HkJ0k~iP
M}FLYx`G9RzQ0oAD0sdCk|;cC<yf`Nb+=W?!)7&fYZa>9-1=d*tc1JePBy0klEMAF5%}NzSggQnvS>#BTaD4!36a?4Dh={yp8&{;fdHmPT@tsxUIK%d?
l(7%csT<Qr_m}=eiLgj<lz4HVN3c8vduQ!w!8djD6YS&#(NQxxVJ%Qbj7#u@oB@c05%Kb&#yCK)xRy)E9ZuS>8N+y+-I`vR9UG{3OtVcHhQA_+o1sg%9
+}Q1VvdqDd8OF&$>7YfI-`<2<6s1TGhjLsc$Blv&qJGjrA##BicXa%^0=$z2Jr=%?P4x?<(EN63ciTm-j?luIMenYbe3(Elk=DO@;r~O-EwUn{Z7ieG(
yk!CrQU-i3?G8|65CQKKOZrr#E*&7+SCeeYLZlsM-KQiU^_Ec5PH+FD|iJFTG|SH?wPLDGzNZ2h{^I*@Dj^JIwrM6`wi)R)JcWT}gKbmt)ov;6D_Q;~l
$eY64C=d$6NV_s?YBw7xh``|IJeusH;>xrsM-@80=r}%#u3$Xt~0xu>Sqe@)0Kkqc}Yhuyd1kslHlk4mOC%y_p^tpyk>8YUgkx3#4O9~-;mPdYJULY!1
l!K~oZF3P6t6*Ljcl#A%9in(K`EI2?RZo=@l(8}wWb<v2`y1&?8|PfQN5SO$T~+2PyX0bCs{+Q3ud8v#Rs#58oM+ozhBXY4A(nM(EL<`48xkI+nS7<cY
@R$-*fPI$>R<NvDWE4Hy70JC`<ftm=gKP{)F}IaE>{#f<uw%%DnDbpFsT!wOP)a4nB3V&m{o;;f2wGh@&y4&rGK;F*O(jbIt%|Y??WP~DKuPC^F2V|5#
B`6M;0gzzdPz=O&t{+4KLb>K7`r1O04b6CIfuwcVA^<{QY$ZOOt{doAN1Xk3);vxOv=>W^j218!)fi?w<sECk2Ffc_E(SAXg_+VGU-AC*C5*$tBQx+}Y
}>c`I~P^|VSB3v~xyCXa|`LFfr`sp+LJHGfv1Po%^DQB`sx;+D8H(}t^gZk{IUgoEwWHj46B*aI2J#&!uGRkD8izw>ZzoPB)oqQ0rB1E{_c+y|bw`{<`
D>bG2qvKlm!OD_<UCartEs8o7r-FjA^O@9avm`SCJk+N(10#h@nd)sBe2)MA&6i_|j+KV(C(%fl};fyV(^KORPjH9BI2w8b7*Abo`!*LKS4ZKp%k&LLO
-(cyy(=fbV;X~h{IgR@E<3w-L;u~L8k5P4_qlV(nI>ur!Mg`iH7D3p~nl1t#K4k*cy8-yzY<cZ%RysMcu$bYNhCugBQhs5UwyISrkLgk+70fIp9QhR~r
PT}fVIXW-tiubJhD-ScAFj(MN7sgZ^(^9SOgRWn_!+v7gS;E-{?X%ynY*{n3ec*Ev1CgJ=2&l?8arCXBWZ}=#>1>fxecbjfyiZXOe7N9pGa7Q$|FSsAk
v7-JNdO-)v&(9w9=uR=<=yAGQjnL;y>rn=@;JG0$LjWfb79Q5F@}iQb&)SyJ`Q3N>d}}q0L^X>Oe|$2>hAOf+{x+7cbHYG}^K|aBcAR&J|6@r<?fMMpc
zBqdyQSw8b`Cd!U}a1>){t*z91lPrR040Y}m@QblMd_@x744dot15jI$K>TCR5LUiAcJ<$Y#6K1TVtMBm|1%+(-w%_cLORRvYJ^W3q^8T9G*vNX_Cgza
*cD_UUmhkE3=CVC7FxF!AyyXSXy=PA6q9>@PPNG&S&J+G?@*u5uk*njL-j-D$9FamN*?2mfo3lAw%Hx<MiWqgWhNzWLtae)^{x-=zOKJFxu+**>b5+ON
wlYDD2kw<@K0L%~Sk~yb7^SDBu!kLd;?j5}ozG)kd3dkI=8Z1aZ^E1YRV9x1kJ~fTT^fvz-#yX)`X{)6LEBL>>-v@f7IXpihrk$S6KIc|VKy~T(__5tf
wM#p=Reh?BgqN2e*EBUKt#t(U^oh>*`CErqXiyR$B=VsQ!lm}`0Px)v7ovLdpwSHuBP_$AMar<D*p(RlYDdNDLvIHmgqwe6~P*^b^^(}hD}B_XjO=@1r
@`4X&f5XP*WWU$YR0LQcB*<tMwInd3Y&7qm@xXqRf5s@?O;gVqHKY185uSjkikDYwP|s7s~U1JZ;Qmp>*lR*OQJ!c3aVl0Y`zppAcYwurKi(t={Jv3S?
=cg)RCaf}Cra3AxD|g?D;tQ8rk)bfrjj;M#G3jXmH<K&KYOFDc0ap{v(FLdbc}hly?`pl>o(oX%KhXEG13O5Ljy=am}kQ)asm*-_mV%uHxC2#Bp_MV<>
=j{%F4-Heq74uhyW-LRhXA|^b5lL&x09n&he1~QL<maF`I@~sL-9It~!ZC?ui5*Q+8X2rAW|C(BWusFXLQWecd@$9w<S+AdQbr7U9JHax&wNf1;z>pcr
`$Fwew3NElD%{FpDnju^6h>U@O~cVZ>RA+Q&TS5=O4R;b^vMC-xZ|+8spRBeJB&^4=oo(jQQ?u3QiBR(hYSnA6I>dNm??67Pm~XdLOFyWv$GtROp$<PW
vys4rc0XRNeXW7H)kTO*!5U;s~0+K(vX<&!a6UJxBq67nD{F_xym`lwHe5nS|E_8?Rx7!Wqnjzjp}T?in%^paqLC5%nOWX)9dzG7-BG5<At5WeyPm6O6
HeCrspk7=b^nxL+LqP#UDkac^tklg}4B~<~0BS*8pHSd}}b+){rnnazbN#O9WaNR=5DEYkTrX@5AD*C0CiixIbsGH@`Pn()NVz(>{a}B%PK5bf!?Bq0b
^o6udf0T*-z4YS9nB1KD|FF`Cs#iJfpe9PD7*_C|=^a$9^vSSVZ|Om!0REN40BxetRW5GCUB=*9AE9v(!yV9^rCQ}_GXf(`{QA}wF}(*c`3=DoJN9Vbx
OIX34_PZTxPfUg9#s(*mFX4D)92`F|MsWBZ8^hh3qChRqsV<V`hv(8k*uKUm;nom=4+&Mabu)}8Oe|d_fda76bLCOq-y?j8UWJ+ua9MNXg40qSSmr+GW
6u878PKxY_LfPLdAv#`T=LUEG8Rv(rHC(c&t!H8XgB!nq0d4zH#<|UH`F3fTVvnqVR5+l(r%g}q(}w9Upbxn5R-EA_UG+H9QzA3>+d@5tcacA~st=l3@
eLkBD%B}%^qOS;5oT({sC=08NsvsHcG4sFKI|fYod_ZUePbj33jxSy2pqe~boW5a`So1hJ6)l)Bi;MorQ+!>(yBZ4LV?mV{!9`$p%N?f5Ks2EintT@|G
$D<p~#y}XjxI+CGye#SvBuN0Z6vhKMU0Fm<k_v0!n6Sxh++)WdUk9cW7pHZN_WN+Z(anLHrw7w6-gq%ioSFbb|EyCD=0ookh~mC_3DAhEE|F6%A_&{s}
LYs=;gOrkSHRr+nye2+l~-1boTIyc=`U$%HMzHb34wR<~1=!^MP|nc*?(a>Ym;4$798h{+qMtlFE(heBWE4nk+@439YO$-`LC$jxUD_xQqWt~HJCkVe)
kI&>9P-1y|elXvvfy`9bLjVpuw4*ow*uM~k45;{}jM#A|nK>e%NX2w&)=k5!iOX*H19hz832;M*|STvY@pnGaqKaz{va)HP0EfLg=>Zi~=|HvL-0z8))
t!)7<uHgYx8AS5OIV194stFM6R?bj{oOq|knq%zsIs!=_4L=9A|2e2{NRCA+c~~3H)SG&E?+^EFi(gIF1>U_PrP+G3@c2muJ#P<Qx-S7cx;ICrDbZw=G
m!cTS9M&RErrGuLS?_66Cz^5!aUgiYFYdO*R0#5H?EmxG#tu~Ldivp<DuJlNdNHgs*G3z5b*d?OoK6w1X-)WiUd&Z8c8_VK)>3sA2zcm^h=Z`x1)X0XW
^;EAb=4#a_TV;xkx;S(@rTI7zG9Uy;lGAhEz`Gy@%_8%ZtYF0mFQXc#-ZlqXLI?h$<@4I9ldYcku)}xkLe=<>>G|bTuv*GGR3Ec@iRZZ#1W$5}QG?rl<
{n&W;RIqDW{`?g2nqw-ll4J9;YeA_6;OZQbIq;2JxSqGtUGEwF`CK>}Qp&;mFk!Xi7kMM|bQLW-Hw8hnH>F)Y9o!TcaYN_#^o*$O=mP^Nq>*3sOZtZMJ
IJe8InU0P!j8?wVb0jzP-Kpg=jF<oa+`9h2M$`aobZrvb`;X+7g7v0(YY^yjxbv0ijDcR)qaJQZoZqrg*rmS@F!A;?U_Xb7uN0j*D@Vs#;+j5x*e?1x+
^YY?WO}h;@7~rz)!Cm-mAgNg#bu-ZxyAN{V*J?y~#qK)7(~UN}N4)<8xaZChCM*q5+#!rB7glk;Ja9L?WN+YHjsLPeOxPZp3W6vRM)ul6pQ}M)<Jca1>
>r>gKIcfMVqk@?mZhoX-N&%`UDrwSf@hh-1_@4F1;p^D*YuVXvk5)(plQ)!oL2qaPF=U50q@<RHxOCU4kevp*v~3tCFSr;4Z5=9{55I3Z>Ku&tm}(`nh
nWD0oB7qf+@OCu-O$yQPDd(a#$JPU}qzGgAxa>gwtPv!dk~A%)FL<60NDfM>8yo0xpCc3i1!8CVSjUjjr?qh<!^k0Y-uf0U2aw`xrQ?>2V1kw=|_)?lZ
};KOO!U3(<*mvc0lAs&arvev`6U$0JYce;<|<C>j_^Fd5ceLP^VTzVY@?pil~8r^IGURzDbaB<G^2WR4MaLnZ>DRQ|IDWMx9ydB`Pl?{f&KJ%e$~^VQW
*80)=p`TkzvaoI(_b=wYvpA^qo>cg0p?ZN|qgrg;pf=;3J=NeT6%>6Rnq`u<os}{%bIK7tQ5&<G&StC@CB_iWjdh8WaXh!e#zK%cNqLd^z5_`+OmvaWH
d~t?#D!))aEmtpUlk}kC;Z8R)vkiub>016bA26fDTgM;J2A8eh`fGvJ;&b@z1{eZ!yDNAdgDEd&Uh?e(m6Sfi*y^mRM62K17Qk)v3NXS6`|qW5Qx=ed9
AS70fkkyp3FZ-G<Vp}%Nt}<NYuMA~p7oB;wqR$V>jA?1A=!JzNH3+@>Jld{-RrEeQTifhl_sof+FPPGh?PtWQppDpwo^|=8lR<z74yWHXZa*nJ7ldi;C
JxBc8YNYHvFmd#VS(pPFT=bB(Q9{SGtmU1+4cL{QS^$D1oKqwplHi<p&6WQaX)ZnXw1lJ=C;P#z%XQ$`A9W*jvqjVVr_~)Yc-WMG=A`GMY{9eSma*M-M
Hvq-{9YH3TNNeMdo_%j^B9wKO=p0#p^)h|h5WKTK@cj_n%mc|S%>a%J|752odTrn#l<Qn7LX=Ky4v004pjy7muxb_YRFN(FwK19$nW661xz8*o9ngdT*
2v@}`~n%703wB-bvF3I&|ZJVjqwG3IX?$gdg<`|2>O?)>$h^wSOgX5kA-=x0*C06^PkIDk6MKRvFW~{>Zo|geMA`$hUciF`BdXW<?UZpCSXiRsS2o=oY
gGF|b+{-nbM2&HrsS8@-Gw2-RzB}bNHuiBS^Mvb;E0<GRHZ^H*K|&pI87iDcSVia7+X7}V&}A2Yi|&vvY)7g_^y0rN&T-NXR=2JE9HlTZvs$v%H|?@NA
vLUU=CbOymsn)*ywN7cfcnXBHh6E1!*7=3b&$E~SG*`La)~;m29mCOY=GO@L+9)5OVs^8d|Yh?<*YH7HC6C$jA?3=_%ak)6Af48D-(jgY-<MaZv?GR@6
o|l3NCj*-z3Eh<K(Upnt=aU|K^XH=qPNft60`xYHR^c)90(r+v<}>5qEI$L9~0o_)QYYq#kZTy=g2eWGXb_KqNef_&ypaLNK7zY^U3eolmvJhsyp}N$b
Z|ypZ9M3ONy7bzL3MS;*zr?m&}kTi@1=v>_5hf{X#Blke2unu~xM%~A<&n9C58f=2qsE1kD*L7@&^6Ev*Qr9A8usCHDUF5QsuAREus31eTi(yb8E8fsf
_3gN<sHI=Ncz^>+MHw`u=yLl$o?Gu=t)OTFd<7zj?oN_lV^9{9&@-{?$4iu0VR!1`9W@Xjhv2}%i%8fi~v=ho8Or1weElXa+H|$qCKv%liqodMH%e%YG
Sh75HcN6J>&#<FY(S0;C#i<UZIfE7VL1aG&)iP|ufCw0kr@IC$%p%+?w{*tl=N_8ZDw`#m;mu0zq95?bBSwfTCo}ypFfU<9>n+K}$&Y6vdvihFX8tOxT
>fK?7PCYFZwIvAv(s57z8IiCh!x(cM711tT)%*G4ZBu&6AtzRy01Lo+Y=6Hkq%pt@wQZi!r)yPCY|CncF)03W(VR<4?XdTqwl<a$+?6NkF-e$S!P=g=N
;dmXpMej#^5n`7k<0?!&ZUm4>aw?`?AGa!tj!1@@{=6D$Xh2DrXxS$Y7L2FtKda9~LP(%Xb56Q9voG{Znx-6jrbo0;V~F<Mfg+E_$?e5q)E@D(?<ZpJ^
w&HW=|BxFSB_68$Dy^gx2jCLXE-`^|O=EfmBiz&vl!DS_#y#tLuL@9l3Hb>9<#74b$4U6zPkdMh%8+OLQ2WvWrG0@<hEOBSQr%tVoHgUI%-*>cCsK3q?
kNq9S==(gq@64h@1k$w+`GxMr!?~jU!N*d504^9PBk*p4eRZn2%LD7BWo)TyEQGK#8hci>JmO9hG1>3gj5D3D|v1GS;&YrE78PcQ#OvG|m`;+1KZ2pZW
{~+)2D<PFdZ5Y&ZhtdB*3QGiE0m63fIAGdS#RCD*-H(PHp|IETOCk(y3gTRt)MKLK)FGg(`Z63;PuG8lf?ZF{6+={p#cf=Fqe~%2f9R6>!jxm>r#S1d_
prEY)7#tY-#+hI3qwbb6K7H6TySw^yd%`U6Tu?ZQy+mCHX^0Nr?9C|5jNuW^W8uD>C>#x!|eEnCOiB~{y<V{g<)$tww6J{;~DVTDE!gj!AeY7ivFbD=9
r97@SjH*f_(?3!}TRj#|s5x&!p+DjcFyA@;(j|PVLhrMh!1`^TpdZbMY0|B&OP<goAPoV-|d4H8ff6VE78b*!)GM1PlJYc0h@fVh@V8e9$JI@F5YvyZ?
_^yF+*>vjRgGO+$YVb>ad;m}--d#=WmCO?Z-lJf!9Q%u*FfIH@n+63IB%<i3jDe+Rv!28-{4H(UgLjorz(c5SYpq`N|Z^dQNs^7`^!3cTaO9JXk-HT``
k?VR!m2pVcEd#)!wp$CQ%vJ1px^Tc(!Z&T`FVT+MPhXYdC%w%QwqOjTzCa?x4KvXzM4d5=R;Asy`hpeciQLDd4zBWd<>o2y@Di6=c^;f-{$F3GrhvJE2
`nyYQPM@34lxN0%&jl<IPfJpWH$t!9f2g;nO_E9_FBG1xrL)O!3Yr=UtGXK2MWCq#BMG$KZr89I37~b&+Fjn3h6ZjppvWG?9uUdR#HDn*7Zk;%Kv#3W%
c1Fn@tVVR!2308g{)e~aHx-?_4F$JZDY&0g=ooH!#4^Y??x&DjwQ+skN3AdWN!(YB%c!3jzQ4(#F6HN`DvurW(p)8^PBZQF)A}KLBB*h!Vc<Act%L=hO
vsqTR@J;M<c<|G~dLUa;IJrxX}f17)x_F>6n2lv~QKG-fy^uc-EYtpzFPom4}`-*UzS^EXmBSAF)*u=jZ!M9hD!<WKJ?Rz_@l88vH{A<z7RTX*0xc(Qd
reLp(zG_|qobcz`b#inz2INia&hafN>9QmSHEY4j~lunHGGO8@M=Upq1j8~j*VIklkAy4~)X-s|xhbN-d`Bwn(zR}OpEUn=kB6;M8Ox@5&Z2hEQ5L=ft
}Zqb$$l}tNkk;e7&ek4B|2e<E<UonhV<UMQt{m&vSjCfH#o%0a}yRTnl2;A7vL%tcQy~eYMm|*~I*T0S97R6_kkL}g5-hvHeS(sZ8zeafpK?(_?6CH``
>v&68{Mj54y(V|#F$wN}5cU&vtP*^x0d3LJcYt6GNvz`sBSQpY6!l;(pM64~Hn#lk^+^#)zy<$(@oKh~KA<rIV-;^@!)Ax3m442En)0}?#iQuJ?eBFM$
Ys)Pqm&tKE*3Jy0#2y7&lov#tl4c)@Ik50O&oOi8sTe_QxB{jE6C3q>lT*ou#Nsoeqs2a8$P!EV=gu4A3=C-PXxD*G?AVJ|MsBiyEzCJ0~SM$3{euIgJ
;((Wb1OgjnhJxfh3a}QtCl;LU=kBuW2)`w>W#ZK}6{+FpyHKm;5b^3OA#J{|Yteo(v{gF02W8IvHpfuCV=qKD=^!P44a0nsNdx9UHWypE0Y3@DvsYKc4
nMk>h_1DY?W#W}unoO&~V7Kv~{-<$HMQUl3gv#U!IsBA(s>6AM}M0nB8O64a-7LN1H}yl`3_xg+34r-(#AOjW+SEED@RXPn7B*Ecq-U$C=foHE8j)a;i
VNfZIU+r>lrX+B)6-C3Y6f+Gf?7cT+k^}Q;>4h$&Gj%)UO88R#^EJJK+rXcOQy8-oYOT8}moEKM@EHoetRJ2P#4aF5acG)jP@J@E`?Xt!Ow8{LGi)AKX
(R$OhCjnO(DBLb$@>e>J`?)~%4CgWXAUF1U8x(L3%t`d7Xxcd?m^V`DM{VLKI~dZ@%6jnLqnIdDDX`j=G*3?<0`1|bAKo4jcVp5_&`3@6ENzUhXoN~K$
sb9xax3I%@;Wz2NQ!Zod^jJ#;a`<CI)FO^H8-1exf-pUhd!-!$xn2mf7SyIg08}ujJAV+rq%dQMQeGF_#!EY@B54<3t}GkTOVEwC%u)C3PhYicrBbK$g
V^0RL8OP88KyInCMoHgxqa{%jJ-I=13nsRp}qoAp>bE1FESqN!AfisVJy?byFx~<)l#I90LD|4aWwWPI(udyI2VneEZ+S<6|-kP^Ap$<MUXKe`PgRypP
|}{!7a<g-bS}M-nkV&9`NTPxXu0mVk?0&hLPEo6oun-TY?qRiM>E=hB4dTx1VQQXEn*3{_$3{G!j?P<i-b+O55~A#Cz!j8m3NoFBK{)^p;5uDR@mH%Ep
Eb;z)Do>10sbRag>3b&ywu^s9vrSu~cYqGQynhZjC0WFIV7;tE~z)#W|#e-NXpv%h$(WXVRrI<ht52XYrevQHoz)b!pxX5dBxvFYUbP&Fu8l@n;Fe5&|
qi)Niohbe^5R5sDfd_1jxNZZ4%w;sQ^l#{EXXS2iERLP3^j#8>#{oBH4hG0BO%dCo3YZ|h=t`v*ybwoYkPQ}E{>tf7hk^1jovV7ohbNt-elV|X-l$rnD
*6WJ7WO2vNVmU%G)`g+7fi3H3RQr^x`5S;H~)>)kz)ROtiu1hicWQzc1`gp&4mx5#6s|YWO`2mf-A>}d*-u~9uW7XvSrPNX-qs#6yG)qBz!1>XGtLI5f
YVP0ZgL1DG_71h;#2_=UuKHz{pfkD9oc!oIPAi&@$N;Qk|>*Z61VU-r*<KUwQ-7@Z-aMRuA`Kdy2lw-gB=j)OFz0#>CT9;Xv;TO3hjI$@4pjLB|QRQ=n
AfnCQ(B@VDSIPaVS7bV)_ht+px!trf&V_bAtW=(4|SVA$XqBTHEReMWcNGGM9YA8QBeEK>DF0qrV6y{xc8H?khe>B_}$wjC4g*mAdjLzq~rE4SX;OB;m
4m#oXD$KsfvZmb;f*RbcUL=aQH9lYS+7#B^KC86bc>&&=8{_3Dm34Lyf#X`6g_j<S8=o#ookeHl=5Y)^Zc5w+;`l=!VO1xzF^h9z!nypyJN4}_klw@@K
#pTYT@9<@f&h*voYdkUO-q$2|h=CEvU_&eHhA*hm8jlZzGbI<l3-v{P)B?LN(S?PrC5s2-hS{>GK%V;_wMqs80YOBn*lbzOTN(A}R^Ch+Qr4^{2`7oh>
_13}BNCS!rHDTKM4dOm1wsi9v0?$<Heg76*tz1Hc)l$fBY)?A(bNYL-8~LDi57^t4>f4xfNyg)nZj>hdQ#L!tb&rSKKs=(a}_T1obZiAI5UE09A{rT@{
{LI4#Pn=4C=B%Mzh+de9ah-y>fTd*05zSC<!qh(!!}TfG2?FWFRaml_he<eISQX$DQ%mg{H=UGDCFZd6qc2!;<r<V2hGl%bN$@D?OU?9M~k_*#D?hb{I
jW<{(hX(LW_T1fC1YWq2pXrM&`kE1D7h0niKRF_<&y3#ao>J<Jzbm}jJ^$AcC|BB3u)5s$o!13UN*4l+$ZqyZNF2WM=n=g1{DV45`B(7NO<>2d+H>oJ^
aRQ*m}h~30j%5=-$Qq;$v7NcbAtWsjfOl4~PVVQY}iT^-oO_ayXSN+aY0`NVTGbQa^m87nD$Q0qh;8jJDzXBc4RO?mmGS=Z~N3*sLzxC~>MridKQ+iyW
Nu4g#Ob?=$>O^D#aq6JNsr~nhU6lL?y|QTT5)>_xHfiKy`#0P;k*u)S|K-tTMja3mwE=GK2RwfYNH(Ac1q8i!p-^-wRU_yR%HJX^Cz&w<aUCG3UUsU0y
YR^Nmqm1-?=MV^|9VzT8q!^)qCWR{id3370UIV@JwEpe7X^tETqB3;qx`fLXd=$zPUQa&5duvmb)z@-9?+O9>%)8XlciBrUG(0bRCVhF*A6_haMG7A!g
e0et;3Z)sN#?BDibuu=f>fjG@qJKqPy~YULEC}0m~5SGxvQaq`8spJtjpbjTuBrxl6B4G7~sRd~eXNt%*=r{^)LMJ^8<=JZJSI`uhULKY16?gn4dJ_?w
}Z7Q9pGNk*H<KQ|<wUk-p#z3aZrQ28@Y^gCjO32jnI83TbuMle#j)=Slg48R<!`}C>b{fcX8JBtLvmcG^#*ufunRQ{i{GVuB?GTLy=TUg{T&h=5fZ^T5
;0*W_@R@?P_2rSR=l;a1iLT5W>PxLl|M^C<Q^n3@eHnPio>DK3Pw?`b)Y(`cauj4>(;)Ad3_Wtp@oD(il`gpz`HCdJcbGB_YUTX5G?7*4i|1kfE%Wf8p
ZGdiyS6(VJq*v%8_7*lcuHbrZlcdKjleNa9rZHFM(|n}Qj>m8}Z4)?<uD}S@f?&6xRXhMevd4`uH*S#5;F*jB;=K+#5=f!84YmRBUF%ctxk=PzG-!TIW
y?p#JD#7KO#i_!Y?G;v<f3It;yNC8@4K+R%6)!;<cS66aQWvAMn)x+VW0$;#8gV1>6wtQn%b{79ZUDLvs2+kKf3b)o6$uVTx3cmNH&_)0geqFDKe{;jk
Q0==(QY2c~FX3S25kJXs8cInkGDuDk=2=%MRR5SM0l>ox(6qb@I~1;x{??Rs=8apZSTiwijB7xhi-zk=K0jZ3#nVlpb<HA<3Xp!&=Y_T1{FP(xj?XpaT
oc>@c*+B!x~GhJvIBJ6Ell_8#!)`3VfXGj3$TXJWs?q5Lc-;`$AUl_;yzyW-~lv9rOoc!kP?xR-|P+OyL<#S07U*o2eEKiwC-FW}M3ja=|@ExI*MYTGP
>r*<D2rjLTSxigqXv>B|CSbJmAq_T_oLI*tM3mHLuOAQ1JcUx%so2}z|1Ny4h8Ui-8h)B-I5-jtTrAW8$Uv;xoY6wigvPaT#UGGB1eh=I)0S6}x!oSQ4
HTXv#r;jGasi?xT-aCmxEy6I7@p0zsY{AlxN;sBVg;qgudv3NtxzrdP+-VDO|F1&FRe4dcS<qg{Q3LbR@Zvl8;$8`(1>|ei=F!5|#!1Zx81N5Lm?kFJl
dveBe_2g&1cj%R%=<8!z8QY)VXp=~RME;Whed?Nh$EW}pLnVu5+x5Pu*^$SL0!l3$<HhD`H)OD@#^O}|B6Re|I-eda32&KPHpBt7bJW$QlDdtp)1;Jrq
9SwkPWtM<n;^5jGUj)cfS+PC+RyCl}um^;S-z7>BvZMjsFZOazo^gs=?*j%g1$^OSUM5Y#Ti9X^*j8F#cCl7#+f<m)#{lFvsBK3)o}yVi;o#NmTbo?hI
)}`l;`&mB|aS-z~W^$@61o@>XPwpp(sN1pWlp5UvmfG)z!n<xSJ!bkyOZ=&q^aWgSV`;+ufN4aa}0VTIDq_|ejAdP@t%H}84w+|cD|$WkjYI-*1s-y*y
PpTLMt_yIWKS7#eia*Ga^CLpwxo`?Td_xP4Amkd_h+o--ovZ&;t%n|qs2gVfR<bPCU*qc%>kCkQ1fEH$x`N-3)$(c*RcFNei{0?ma5xf_C*Dr3+mGcHB
H&CFDp1aFb@``$qOc92BD{#5SkoI`&PYRfxIE#2WtFfOyp@q;^?Sm}okK(kc=e_+Ev@w=X6Lmn(#j1o-{v6be366))m0%E%b`bv~%`i}$H)0IIuN0!U`
JM9!m;VZec`OJL^(se;Vs-W7VU1wORKq0C>#Z08tzcemhSzg=X6?QIAbDnbV;JW(w~{+Y_b><@Aqe8}=v`HAEY}Aqw0b}2a?CsKh;r5&=(84Tm8Z=cm-
}<WnNBB!T_lkiYyzTXG#T$FrWHm=nmSdX7Ni-*Tcw?1?eQ5D`J97*3ju&5m(!U3dh`YPJbVEjNiGW{-WU*IB7tp=$(TA`e?~Br<Z3WyC`YO;$}_Zefpn
*imYR6y8U`|aH6!og?Iak6Y<TQLyRO}GJYMIaEWALfeQrZNq<g_?p>$=`si(@<hpl%C5}W(HBoF)KY=hDU5iBRZFR4J4O3oKvVr|rwZJ&5V{>6H|J}la
u-CL}eP#Ko_8m%E|BaQBkB%VQ!>kB(E^3G1ikmlLr_EQ<XGwxX=!4uc(+Y&)=ZP-Mm|FcTXOrEofY@`lWMK6tnXrr231cf@!!0^O$;i%sFoGf$sG<xB(
M!i7(BC|>z$Ctw%7f_-7pj-qtkCqITHoqG5@b-P<g;?~4M&s)mJJ{xHWH(Ga%<Ez<ySud|VKpwFJVLGPnJAJ4=0d(3YyrsUD|IX|%?8?mK)#&(;;m^M2
fk`!!5BfraP+#QIbmm;>{r$dFSCmEd6(;DnIJ%RMszuBo?1Ohzz@SyqeyEeHUo;)-MpFp_%*H#glpuq>|7+dF#b{@TSKM#in}?>EZY5{!hZEk(IA1&3v
wQvdPCt)K<ypBl=ex?HY1WrL6^dDQIGp5w7yDxy*q=#U>_RK_Tw4KCLT^?|0zKk^JTn=`j_nIJB{o{`CaX?vy!AZPKQ5SP*X~XS4c-j-Q>Z3rh;%h2NR
S?JL;LIOBQsFIk?J;R6h&stD3x(qr6LWg(S=VN>O!8CQz3dQq9wE1N!-7D@ZWVtMI)!{7FMLzQ&m<!8m7w12dvx{Q**{+;0uAw8TA(Qy9IC<U%pDCJ8H
^)xzFcT5i=dVUKv?bt|*O82#ffG${4LHA!d;;HG+Mlp5;n_cQm_q5<!DOE-v;D}6pp>j6)JOz-<sW7Te8{Y4R3x8pXQ3ADC$=0~-<yiIZS3#$b7P66v*
;M5r1@5WFoDVB2Km>{XKphujNKI99IhvK_lZ(9rTwv-c*H93m^8bj34M;y9G({LL{S8={zWIeJuK$ROAA+YCMy`ZT@uk^Wj(>T=%?^<Tt(iG}KeKOBuc
dZ>a5e)8w{R%Qjg_-qZTDeflP#SrH^;YOXUyvMuKdn|ZUJbO#UhIa`Lx3agaL8$hbywIn?A&9N^J{YHj;?jBkopSX+AjXaiC|F}hMXOhi<LDb$$D6Sr?
DZ7B`ZG##6|Or`=$g30^H_(vER;65rZ;tBJ96yd?>EvKPNYtRdXvT#)$@{Wdk=2tTg6~dG7ZRbA!5{SWi-krxT{6pN(9a=ZKILa{b3X`lvf4r=X|Bm?e
g4-wLfdPby5rIwlvC?@rf}m@*pC40pOABYZS;?IBbQmjVHnul}=b@p*n5Ae-l_znl8rz_B#8O|dzr8Fc%>x8=x?#U9Snb3blO=9F@gK&}XJsv~IHBbNz
PD81iDq=+z#xys6?qGe@6@rF)|S0m2oc+tgC^@cGLPG<0cOWC4VuTKHbNfARi4*XlGht5P8J>vNc^wof)*yyi@m=w=}SLIhy@+PUKU&O?{y$yoa(9b-M
i`7%b(%82LrE#patIg#n^tn0uU8@O)sSmphg7N?Q^T>cqV!>aMfRLV>4B=?NcGdZ7A<3Y)ab}O4^lTE?WD;repE?Oa#}y7wY_}8Y9lWsTi>7BjT@@>X$
cTEVx~vX~uG{sJj(OV5mdnH&LII%7w$3l`nuhh?$~m2G+)$J^Sz3W5_6HEi0{CFDztD*aGiRe)X0U8$7}>PM*I@FywJqhR)=P67^6k4+yEu~X?i3_hp)
~>b(N=FcG8z~n1g`<HN$QN?P%Te=@W^WCK;M`x1Wk31k)$p;g_p2ZpzBS@e&+cuZGp?vSddb@V-Vk!8iS9FS=X6Sc;a{=L*=m7*%<N|j5^%a;qz6LSPV
1lQCsD3+y{R>`$C*5{gGz_W`SZMrs1ugXG_L-XUt;r-_~63>jpafdj&?qhIdjZ+3vhyPu#6bQvBrwC1`E6Ju7PYuFcWTd-k3I*{{}hK<WDe2cU)$JShy
2acbO}^lX>6Ald%FU&k0hh)6@ae3~?d5vvc&xM0nA@gT}Pvqhs765}i&9zFjXLu^j4GneN|ANYsRN+F;+@Yo?NgR>Y2gl*n4LO4Ox&=zNWU-|=k;5im>
#-3;^gzJL?!!Q(QAb=GZ27L)hvP-buD%4>U&RiMtdi#mK!7rj1hXHk(3GSXs+mABbmJ4u;?o7Ruq49@?o>N}^;eHh1tR5ZVt?%;xZWt9y%atoY9jhq3P
!79TNPGgHr+do>fh#zmPU*`_Df2TEB>8U-LQ-i%%p>t;w#fs5de*Hi22mcoOXW{^G}4<+k$#AEn24R#d68lZ^XdyFRyLPE0SUPFk~p<`mPwlO{+!An_d
T1<PeZ@df^H6FPsq{1s~3n{m9{|lzTzcLh^;q7Gawt{={jq>bM<GnCkG*FG?Y=iXK*NyrJ4F05`C$x{>NexmA&RRp_x$lm00QC(20pPb2`3v@}Qr6KD9
X#;D?0s`3kjGsYqcEAQywwuzBt4>vBwI<eZ+`bbWorDUY}@m~Wv&;=}|5Xf1yidR1L%N}^N!l2*fgV&tW^V}$Ay5)%wd|2ubI-{<X|DX%Y895$C|L;;a
|xp}DAYw&8g$x^;{lw1B<X*DoRPm5Se1X}i}2GLz*Oqbe~i^USwTS!U#zoQtCmDmj$)~N2?OT5+C@A_O<cK@;pst$DPr92p)tUZ98bq5&u``9eP#{3uQ
I`xI}PnHdN+0<svH#Zfqj_+BF)m-eY%yTE!?q8neLczn+@BwOGF3>%GO=z(R-4>vg`drE2rdYZAIdzVTqr5P29c#><&>tfT{Z~YnTcWlt4NClo5r+Ri-
H0>65??;vGCpog<zypP2og{-&#wAXZ+%T&n(P<NxMwxIZBDo$pOQye{Eqq*-4-8OuAnC|k#7&#_&9F{rZ!WqUl?krmAy%3RL8%<E!-H;yEFdO7{&PFKf
jSOB;!0ajV6^;y@J#MUZ=wgiJNEsCshl}Hx@vg1btPjO^9g7nst>^6e-9h%FlIZ^|$e^Bq<7CWW9(htzTq8c$#0Ui?xK!R?y(e3DtVV@G4Z53D@?579~
WY#A`DUekeYk&8k{(?Hx>U5Eho(a+wPJ`)LGT@l2D$zi(+jPEN77xcf6~_-t9(xF88c^<$14GItt&6R@0_S0_9yPcpmXvxUThYe>>o?QZQnyaG>QHe{f
VV)363=aFsBPp~CzyE`L`**0y~PvEj`e1y_z@RmVGh{aKs&I|PXr8r$fUEMsTPrL{T8lsLEUm;sGVqCTB?_Hrm@@GRV0;!=stel^k%&@EBTs+IvGu@qH
v5qou4NM1~g!@$6k1dSoq_$~Zt$`xDnPC~U_!R
"""
"""One checksum byte for each ecg_id of version 1.0.3, from 0 on, in base 85."""
