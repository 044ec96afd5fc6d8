#!/usr/bin/env python3
"""Counts quantised checkpoints module by module: quantised.py OUT.

For configurations as quantisers write them, every module of transformers' own model on the meta device is given the
storage that the scheme's format prescribes, by a rule written beside the configuration, and bytes are summed: a slow
reading of quantization_config that shares nothing with vlmem's. compressed-tensors' storage is as its own compressor
allocates it. The file is internal/profile/testdata/quantised.json; run from the root.
"""
import copy, json, math, re, sys
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
import yaml


def profile(name):
    p = yaml.safe_load(open("profiles/model/%s.yaml" % name))
    text, moe = dict(p["text"]), p["text"].get("moe") or {}
    tied = text.pop("tie_word_embeddings")
    variant = text.pop("variant", None) or {}
    text.pop("moe", None)
    text.update(moe)
    if variant.get("linear"):
        text.update(variant["linear"], full_attention_interval=variant["full_every"])
    kind = p.get("model_type") or ("qwen3_vl_moe" if moe else "qwen3_vl")
    return dict(model_type=kind, text_config=text, vision_config=p["vision"], tie_word_embeddings=tied)


BASES = dict(
    dense=profile("qwen3-vl-8b"), mixture=profile("qwen3-vl-30b-a3b"), hybrid=profile("qwen3.5-9b"),
    oss=dict(model_type="gpt_oss", num_hidden_layers=24, hidden_size=2880, intermediate_size=2880, num_local_experts=32,
             num_experts_per_tok=4, vocab_size=201088, num_attention_heads=64, num_key_value_heads=8, head_dim=64,
             tie_word_embeddings=False, max_position_embeddings=131072, sliding_window=128),
    llama=dict(model_type="llama", hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
               num_key_value_heads=8, vocab_size=128256, max_position_embeddings=131072, tie_word_embeddings=False))

mods={}
def modules(values):
    key=json.dumps(values,sort_keys=True)
    if key in mods: return mods[key]
    c=AutoConfig.for_model(**copy.deepcopy(values))
    with torch.device("meta"):
        try: m=AutoModelForImageTextToText.from_config(c)
        except ValueError: m=AutoModelForCausalLM.from_config(c)
    m.tie_weights()
    out=[];seen=set();lin=dict(m.named_modules())
    for n,p in m.named_parameters():
        if id(p) in seen: continue
        seen.add(id(p))
        parent,leaf=n.rsplit(".",1)
        mod=lin[parent]
        kind="linear" if isinstance(mod,torch.nn.Linear) and leaf=="weight" else "expert" if "experts" in parent and p.ndim==3 else "other"
        if "router" in parent or (parent.endswith("mlp.gate") and "experts" not in parent): kind="other"
        out.append((parent+("."+leaf if kind=="expert" else ""),kind,tuple(p.shape)))
    mods[key]=out
    return out
C={}
def case(name, values, qc, rule):
    """rule(name, kind) -> function(n,k)->bytes or None (16 bits)"""
    C[name]=(values,qc,rule)
g=lambda bits,gs,sc=2,z=0.0,mx=0,col=0:(lambda n,k: n*k*bits/8+n*math.ceil(k/gs)*(sc+z)+mx+col*k)
row=lambda bits,r=2,mx=0:(lambda n,k:n*k*bits/8+n*r+mx)
blk=lambda n,k:n*k+math.ceil(n/128)*math.ceil(k/128)*4
L=lambda name,kind:kind in("linear","expert")
vis=lambda n:"visual" in n
W=lambda **kw:dict(dict(num_bits=4,type="int",symmetric=True,strategy="group",group_size=128,actorder=None,block_structure=None,dynamic=False,observer="minmax",observer_kwargs={}),**kw)
ct=lambda groups,ignore,fmt,**kw:dict(dict(config_groups=groups,format=fmt,ignore=ignore,kv_cache_scheme=None,quant_method="compressed-tensors",quantization_status="compressed",global_compression_ratio=None),**kw)
# AWQ-style by llm-compressor, groups of 32, asymmetric, regexes
case("ct-w4a16-asym32","dense",ct({"group_0":dict(targets=["Linear"],weights=W(group_size=32,symmetric=False),input_activations=None,output_activations=None,format="pack-quantized")},["re:.*visual.*","lm_head"],"pack-quantized"),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" else g(4,32,2,.5,16))
# mixed precision: attention fp8 per channel, mlp nvfp4
case("ct-mixed","dense",ct({"group_0":dict(targets=["re:.*self_attn.*"],weights=W(num_bits=8,type="float",strategy="channel",group_size=None),format="float-quantized"),
  "group_1":dict(targets=["re:.*mlp.*"],weights=W(type="float",strategy="tensor_group",group_size=16),format="nvfp4-pack-quantized")},["re:.*visual.*","lm_head"],"mixed-precision"),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" else row(8) if "self_attn" in n else g(4,16,1,0,4))
# only experts (Kimi-K2-Thinking's kind)
case("ct-experts-only","mixture",ct({"group_0":dict(targets=["Linear"],weights=W(group_size=32))},["re:.*self_attn.*","re:.*shared_experts.*","re:.*mlp\\.(gate|up|gate_up|down)_proj.*","re:.*visual.*","lm_head"],"pack-quantized"),
 lambda n,k: g(4,32,2,0,16) if k=="expert" else None)
# targets name a class or module explicitly
case("ct-targets-named","dense",ct({"group_0":dict(targets=["re:.*down_proj$"],weights=W())},["lm_head"],"pack-quantized"),
 lambda n,k: g(4,128,2,0,16) if k=="linear" and n.endswith("down_proj") else None)
# nvfp4 by compressed-tensors, W4A4
case("ct-nvfp4","dense",ct({"group_0":dict(targets=["Linear"],weights=W(type="float",strategy="tensor_group",group_size=16),input_activations=dict(num_bits=4,type="float",group_size=16,dynamic="local",strategy="tensor_group"),format="nvfp4-pack-quantized")},["re:.*visual.*","lm_head"],"nvfp4-pack-quantized"),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" else g(4,16,1,0,8))
# fp8 dynamic
case("ct-fp8-dynamic","dense",ct({"group_0":dict(targets=["Linear"],weights=W(num_bits=8,type="float",strategy="channel",group_size=None),input_activations=dict(num_bits=8,type="float",dynamic=True,strategy="token"))},["re:.*visual.*","lm_head"],"float-quantized"),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" else row(8))
# fp8 blocks by compressed-tensors
case("ct-fp8-block","dense",ct({"group_0":dict(targets=["Linear"],weights=W(num_bits=8,type="float",strategy="block",group_size=None,block_structure=[128,128]))},["re:.*visual.*","lm_head"],"float-quantized"),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" else (lambda a,b:a*b+math.ceil(a/128)*math.ceil(b/128)*2))
# mxfp4 by ct
case("ct-mxfp4","dense",ct({"group_0":dict(targets=["Linear"],weights=W(type="float",group_size=32,scale_dtype="torch.uint8"))},["re:.*visual.*","lm_head"],"mxfp4-pack-quantized"),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" else g(4,32,1))
# modelopt NVFP4 in config.json, with groups
case("modelopt-nvfp4","dense",dict(config_groups={"group_0":dict(targets=["Linear"],weights=dict(dynamic=False,num_bits=4,type="float",group_size=16))},ignore=["lm_head","model.visual*"],quant_algo="NVFP4",kv_cache_scheme=dict(dynamic=False,num_bits=8,type="float"),producer=dict(name="modelopt",version="0.41.0"),quant_method="modelopt"),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" else g(4,16,1,0,8))
# modelopt mixed
layers={}
for i in range(36):
    for m in ("q_proj","k_proj","v_proj","o_proj"): layers["model.language_model.layers.%d.self_attn.%s"%(i,m)]=dict(quant_algo="FP8")
    for m in ("gate_proj","up_proj","down_proj"): layers["model.language_model.layers.%d.mlp.%s"%(i,m)]=dict(quant_algo="NVFP4",group_size=16)
case("modelopt-mixed","dense",dict(quant_algo="MIXED_PRECISION",quantized_layers=layers,quant_method="modelopt",ignore=[]),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" else row(8,0,8) if "self_attn" in n else g(4,16,1,0,8))
# modelopt fused names in ignore
case("modelopt-fused-ignore","dense",dict(quant_algo="NVFP4",quant_method="modelopt",ignore=["lm_head","model.visual*","model.language_model.layers.*.self_attn.qkv_proj"]),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" or re.search("self_attn.[qkv]_proj",n) else g(4,16,1,0,8))
# awq null
case("awq-null","dense",dict(quant_method="awq",bits=4,group_size=128,zero_point=True,version="gemm",modules_to_not_convert=None),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" else g(4,128,2,.5))
# gptq dynamic: leave out a regex, 8 bits for down_proj
case("gptq-dynamic","dense",dict(quant_method="gptq",bits=4,group_size=128,sym=True,desc_act=False,checkpoint_format="gptq",dynamic={"-:.*self_attn.*":{}, "+:.*down_proj":{"bits":8,"group_size":64}},meta=dict(quantizer=["gptqmodel:5.0.0"])),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" or "self_attn" in n else g(8,64,2,1,0,4) if n.endswith("down_proj") else g(4,128,2,.5,0,4))
# gptq modules_in_block_to_quantize
case("gptq-inside","dense",dict(quant_method="gptq",bits=4,group_size=128,modules_in_block_to_quantize=[["self_attn.q_proj","self_attn.k_proj","self_attn.v_proj"],["self_attn.o_proj"]]),
 lambda n,k: g(4,128,2,.5,0,4) if k=="linear" and not vis(n) and "self_attn" in n else None)
# gptq 8 bits per-row
case("gptq-8-row","dense",dict(quant_method="gptq",bits=8,group_size=-1,sym=True,desc_act=True),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" else (lambda a,b:a*b+a*3+4*b))
# auto-round extra_config
ex={"model.language_model.layers.%d.self_attn.o_proj"%i:{"bits":16,"data_type":"float"} for i in range(36)}
ex[".*mlp\\.down_proj.*"]={"bits":8,"group_size":128,"data_type":"int"}
case("autoround-extra","dense",dict(quant_method="auto-round",bits=4,group_size=128,sym=True,data_type="int",packing_format="auto_round:auto_gptq",block_name_to_quantize="model.language_model.layers",extra_config=ex,autoround_version="0.9.2"),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" or "o_proj" in n else g(8,128,2,1) if "down_proj" in n else g(4,128,2,.5))
# auto_round spelled with an underscore
case("auto_round_","dense",dict(quant_method="auto_round",bits=4,group_size=128,sym=True),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" else g(4,128,2,.5))
# mlx
case("mlx","dense",dict(group_size=64,bits=4,mode="affine"),
 lambda n,k: None if vis(n) or not(k=="linear" or n.endswith("embed_tokens")) else g(4,64,2,2))
# unsloth dynamic bnb
case("unsloth-bnb","dense",dict(_load_in_4bit=True,_load_in_8bit=False,bnb_4bit_compute_dtype="bfloat16",bnb_4bit_quant_storage="uint8",bnb_4bit_quant_type="nf4",bnb_4bit_use_double_quant=True,llm_int8_skip_modules=["lm_head","multi_modal_projector","merger","modality_projection","model.layers.0.mlp","model.layers.1.self_attn","visual.blocks.26.mlp","visual"],load_in_4bit=True,quant_method="bitsandbytes"),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" or ".layers.0.mlp." in n or ".layers.1.self_attn." in n else (lambda a,b:a*b/2+math.ceil(a*b/64)+math.ceil(math.ceil(a*b/64)/256)*4+1024+4+64))
# quark mxfp4
case("quark-mxfp4","mixture",dict(quant_method="quark",global_quant_config=dict(weight=dict(dtype="fp4",qscheme="per_group",group_size=32,ch_axis=-1,scale_format="e8m0"),input_tensors=None),exclude=["lm_head","*visual*","*self_attn*","*mlp.gate"],layer_quant_config={},export=dict(pack_method="reorder",weight_format="real_quantized")),
 lambda n,k: g(4,32,1) if k=="expert" else None)
# quark fp8 per channel
case("quark-fp8","dense",dict(quant_method="quark",global_quant_config=dict(weight=dict(dtype="fp8_e4m3",qscheme="per_channel",ch_axis=0)),exclude=["lm_head","model.visual.*"],layer_quant_config={"*down_proj":dict(weight=dict(dtype="int4",qscheme="per_group",group_size=128))}),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" else g(4,128,2,.5) if n.endswith("down_proj") else row(8,4))
# fp8 of Qwen3.5 official names
case("q35-fp8","hybrid",dict(activation_scheme="dynamic",fmt="e4m3",quant_method="fp8",weight_block_size=[128,128],modules_to_not_convert=["lm_head","model.language_model.embed_tokens","model.visual"]+["model.language_model.layers.%d.linear_attn.%s"%(i,m) for i in range(32) for m in("in_proj_a","in_proj_b","conv1d")]),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" or "in_proj_a" in n or "in_proj_b" in n else blk)
# torchao serialised
case("torchao-int8","dense",dict(quant_method="torchao",quant_type={"default":{"_type":"Int8WeightOnlyConfig","_version":2,"_data":{"group_size":None}}},modules_to_not_convert=["model.visual"],include_input_output_embeddings=False),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" else row(8,5))
case("torchao-int4","dense",dict(quant_method="torchao",quant_type={"default":{"_type":"Int4WeightOnlyConfig","_version":1,"_data":{"group_size":64}}},modules_to_not_convert=["model.visual"]),
 lambda n,k: None if vis(n) or n=="lm_head" or k!="linear" else g(4,64,2,2))
# gpt-oss
case("oss-mxfp4","oss",dict(quant_method="mxfp4",modules_to_not_convert=["model.layers.*.self_attn","model.layers.*.mlp.router","model.embed_tokens","lm_head"]),
 lambda n,k: (lambda a,b:a*b/2+a*math.ceil(b/32)) if k=="expert" else None)
# w8a8 llama, nested ignore ints
case("llama-w8a8","llama",ct({"group_0":dict(targets=["Linear"],weights=W(num_bits=8,strategy="channel",group_size=None))},["lm_head"],"int-quantized"),
 lambda n,k: None if n=="lm_head" or k!="linear" else row(8))
# fbgemm
case("llama-fbgemm","llama",dict(quant_method="fbgemm_fp8",activation_scale_ub=1200.0,modules_to_not_convert=["model.layers.0","model.layers.31.mlp","lm_head"]),
 lambda n,k: None if n=="lm_head" or k!="linear" or ".layers.0." in n+"." or ".layers.31.mlp" in n else row(8,4))
# hqq
case("hqq","dense",dict(quant_method="hqq",quant_config=dict(weight_quant_params=dict(nbits=4,group_size=64,axis=1)),skip_modules=["lm_head","visual"]),
 lambda n,k: None if n=="lm_head" or vis(n) or k!="linear" else g(4,64,2,2))
# quantisation in text_config (Kimi-K2.5's place)
case("nested","mixture",("nested",ct({"group_0":dict(targets=["Linear"],weights=W(group_size=32))},["re:.*self_attn.*","lm_head","re:.*visual.*"],"pack-quantized")),
 lambda n,k: g(4,32,2,0,16) if k=="expert" else None)

cases = []
for name, (base, qc, rule) in C.items():
    total = 0
    for n, kind, shape in modules(BASES[base]):
        f = rule(n, kind)
        if f is None or kind == "other" and not n.endswith("embed_tokens"):
            total += 2 * math.prod(shape)
        elif kind == "expert":
            e, a, b = shape
            total += e * math.ceil(f(b, a) if base == "oss" else f(a, b))  # gpt-oss keeps columns before rows
        else:
            total += math.ceil(f(*shape))
    inner = isinstance(qc, tuple)
    cases.append(dict(name=name, base=base, inner=inner, quantization_config=qc[1] if inner else qc, bytes=total))
with open(sys.argv[1], "w") as out:
    out.write('{"bases": %s,\n"cases": [\n%s\n]}\n' % (json.dumps(BASES), ",\n".join(map(json.dumps, cases))))
